//! A LoRA adapter (Hu et al., arXiv 2106.09685) as PEFT saves one: what it adds to which weights of a
//! checkpoint.

mod config;
mod error;
mod merged;
mod module;
mod names;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::AdapterError;
pub use merged::MergedWeights;
pub use module::{LowRank, Module};

use super::files::{Checkpoint, WeightBytes};
use super::stored::{StoredTensor, add_tensors};
use super::weights::WeightFiles;
use config::Config;
use names::{Part, parse};

/// The files that PEFT writes.
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PICKLED: &str = "adapter_model.bin";

/// An adapter whose configuration and headers have been read and checked.
#[derive(Debug)]
pub struct Adapter {
    /// Its folder.
    pub path: PathBuf,
    /// The checkpoint that it was trained on, as whoever trained it called it.
    pub base: Option<String>,
    /// What it changes, by the uniform name of the module, such as `language_model.layers.0.mlp.up_proj`.
    pub modules: BTreeMap<String, Module>,
    file: Arc<WeightBytes>,
}

impl Adapter {
    /// Reads a folder's configuration and the weights' headers. Quick.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the adapter is of a kind that is not known.
    pub fn open(folder: &Path) -> Result<Self, AdapterError> {
        let invalid = |reason| AdapterError::Invalid {
            path: folder.to_owned(),
            reason,
        };
        let checkpoint = Checkpoint::open(folder)?;
        let Some(config) = checkpoint.json::<Config>(CONFIG)? else {
            return Err(invalid(format!(
                "has no {CONFIG}, so it is no PEFT adapter"
            )));
        };
        config.check().map_err(invalid)?;
        if !folder.join(WEIGHTS).exists() {
            return Err(invalid(match folder.join(PICKLED).exists() {
                true => format!(
                    "has its weights in {PICKLED}, which can run code when it is read; save the adapter again with save_pretrained(…, safe_serialization=True)"
                ),
                false => format!("has no {WEIGHTS}"),
            }));
        }
        let mut tensors = HashMap::new();
        let file = add_tensors(&checkpoint, WEIGHTS, str::to_owned, &mut tensors)?;
        let modules = modules(&config, tensors).map_err(invalid)?;
        Ok(Self {
            path: folder.to_owned(),
            base: config.base_model_name_or_path,
            modules,
            file,
        })
    }

    /// Checks that every module of the adapter is one of `base`, with the same shape, and leaves out what
    /// is a mere copy of the base's.
    ///
    /// # Errors
    /// When one is not, or can't be read.
    pub fn fit(mut self, base: &WeightFiles) -> Result<Self, AdapterError> {
        let mut modules = std::mem::take(&mut self.modules);
        for (name, module) in &mut modules {
            let invalid = |reason| AdapterError::Invalid {
                path: self.path.clone(),
                reason,
            };
            module.check(name, base).map_err(invalid)?;
            let dropped = module.drop_copies(name, base);
            dropped.map_err(|error| invalid(error.to_string()))?;
        }
        modules.retain(|_, module| module.low_rank.is_some() || module.brings_weights());
        self.modules = modules;
        Ok(self)
    }

    /// Checks that what it adds can become a part of the weights of `base`.
    ///
    /// # Errors
    /// When it adds a bias where there is none.
    pub fn check_merging(&self, base: &WeightFiles) -> Result<(), AdapterError> {
        for (name, module) in &self.modules {
            if module.adds_bias() && base.shape(&format!("{name}.bias")).is_none() {
                return Err(AdapterError::Invalid {
                    path: self.path.clone(),
                    reason: format!(
                        "has a lora_B.bias for {name}, which has no bias to merge it into; use it unmerged, with --adapter"
                    ),
                });
            }
        }
        Ok(())
    }

    /// The highest rank of its modules.
    pub fn rank(&self) -> usize {
        let ranks = self.modules.values().filter_map(|it| it.low_rank.as_ref());
        ranks.map(|low_rank| low_rank.rank).max().unwrap_or(0)
    }

    /// How many numbers it keeps beside the weights of `base`, which it fits.
    pub fn values(&self, base: &WeightFiles) -> usize {
        let modules = self.modules.iter();
        let of_module =
            |(name, module): (&String, &Module)| match base.shape(&format!("{name}.weight")) {
                Some(table) if name == POSITIONS => table.iter().product(),
                _ => module.values(together(name, base).unwrap_or(module.outputs())),
            };
        modules.map(of_module).sum()
    }

    /// Whether images look different to it: it changes the vision tower or the projector.
    pub fn sees_differently(&self) -> bool {
        let vision = |name: &String| !name.starts_with("language_model.") && name != LM_HEAD;
        self.modules.keys().any(vision)
    }

    /// What tells weights with this adapter in them from others, where `base` does so for the base's.
    pub fn merged_hash(&self, base: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(base.as_bytes());
        for (name, module) in &self.modules {
            let scale = module.low_rank.as_ref().map_or(0.0, |it| it.scale);
            hasher.update(name.as_bytes());
            hasher.update(&scale.to_le_bytes());
        }
        hasher.update(&self.file);
        hasher.finalize().to_hex().to_string()
    }
}

/// The uniform name of what gives the logits.
pub const LM_HEAD: &str = "lm_head";
/// The uniform name of the token table, which gives the logits, too, unless an adapter says otherwise.
pub const EMBED_TOKENS: &str = "language_model.embed_tokens";
/// The uniform name of the learned positions of images' patches. An adapter of theirs is kept as what it adds.
pub const POSITIONS: &str = "vision_tower.embeddings.position_embedding";
/// Modules of a layer that are computed as one; what an adapter adds to one of them is as wide as all.
const TOGETHER: [&[&str]; 2] = [&["q_proj", "k_proj", "v_proj"], &["gate_proj", "up_proj"]];

/// How many outputs are computed as one with those of a module that is not computed alone.
fn together(name: &str, base: &WeightFiles) -> Option<usize> {
    let (layer, last) = name.rsplit_once('.')?;
    let modules = TOGETHER.into_iter().find(|it| it.contains(&last))?;
    let outputs = |module| base.shape(&format!("{layer}.{module}.weight"))?.first();
    Some(modules.iter().filter_map(outputs).sum())
}

/// Groups an adapter's tensors by the modules that they change.
fn modules(
    config: &Config,
    tensors: HashMap<String, StoredTensor>,
) -> Result<BTreeMap<String, Module>, String> {
    let mut parts: BTreeMap<String, (String, BTreeMap<Part, StoredTensor>)> = BTreeMap::new();
    for (key, tensor) in tensors {
        let (name, uniform, part) = parse(&key)?;
        let module = parts.entry(uniform).or_insert((name, BTreeMap::new()));
        if module.1.insert(part, tensor).is_some() {
            return Err(format!("has {key} twice, in two layouts of names"));
        }
    }
    if parts.is_empty() {
        return Err(format!("has no tensor in {WEIGHTS}"));
    }
    let grouped = parts.into_iter().map(|(uniform, (name, parts))| {
        let module = Module::new(config, &name, parts)?;
        Ok((uniform, module))
    });
    grouped.collect()
}
