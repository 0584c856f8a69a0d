//! Safetensors that are read a tensor at a time, whatever layout their names follow.
//!
//! Three layouts are in use: the hub's original (`language_model.model.…`,
//! `vision_tower.vision_model.…`), transformers' names in memory (`model.language_model.…`), and
//! what transformers 5 saves (`language_model.model.…`, `vision_tower.encoder.…`). All become
//! `language_model.…`, `vision_tower.…` and `multi_modal_projector.…` here. An exported `lm_head`
//! is the token table once more and is not read.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use candle_core::{DType, Device, Error, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use serde::Deserialize;

use super::bitsandbytes::take_quantized;
use super::error::CheckpointError;
use super::files::{Checkpoint, WeightBytes};
use super::foreign::reason_in_tensors;
use super::stored::{StoredTensor, add_tensors};
use super::weight::Weight;
use crate::telemetry::load_progress::LoadProgress;

/// Every tensor of a checkpoint by its uniform name.
#[derive(Debug, Clone)]
pub struct WeightFiles {
    pub(super) files: Vec<Arc<WeightBytes>>,
    tensors: Arc<HashMap<String, Weight>>,
    /// Told of every byte that is read.
    pub progress: LoadProgress,
}

#[derive(Debug, Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

impl WeightFiles {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names. Every tensor
    /// is found by its header; the weights are not read yet.
    ///
    /// # Errors
    /// When a file is missing or damaged, or holds another model or a quantisation that is not known.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        let (mut files, mut tensors) = (Vec::new(), HashMap::new());
        for name in weight_files(checkpoint)? {
            files.push(add_tensors(checkpoint, &name, uniform_name, &mut tensors)?);
        }
        if let Some(reason) = reason_in_tensors(tensors.keys()) {
            return Err(CheckpointError::Foreign {
                path: checkpoint.name(),
                reason,
            });
        }
        tensors.retain(|name, _| !name.contains("lm_head"));
        let quantized = take_quantized(&mut tensors).map_err(CheckpointError::Weights)?;
        let plain = tensors.into_iter();
        let mut tensors: HashMap<_, _> = plain
            .map(|(name, tensor)| (name, Weight::Plain(tensor)))
            .collect();
        let quantized = quantized.into_iter();
        tensors.extend(quantized.map(|(name, weight)| (name, Weight::Quantized(Box::new(weight)))));
        Ok(Self {
            files,
            tensors: Arc::new(tensors),
            progress: LoadProgress::default(),
        })
    }

    /// How many bytes a model's tensors have in the files.
    pub fn bytes(&self) -> u64 {
        let tensors = self.tensors.values();
        tensors.map(Weight::bytes).sum()
    }

    /// Whether a tensor is there with the values of another one.
    ///
    /// # Errors
    /// When a number is not finite.
    pub(super) fn holds(&self, name: &str, other: &StoredTensor) -> candle_core::Result<bool> {
        let Some(own) = self.tensors.get(name) else {
            return Ok(false);
        };
        if own.shape() != other.shape {
            return Ok(false);
        }
        if let Weight::Plain(own) = own
            && own.dtype == other.dtype
        {
            return Ok(own.bytes() == other.bytes());
        }
        let progress = LoadProgress::default();
        let values = |tensor: Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let own = own.read(DType::F32, &Device::Cpu, &progress)?;
        let other = other.read(DType::F32, &Device::Cpu, &progress)?;
        Ok(values(own)? == values(other)?)
    }

    /// The shape of a tensor, if it is there.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(Weight::shape)
    }

    /// How many numbers they are.
    pub fn values(&self) -> u64 {
        let count = |weight: &Weight| weight.shape().iter().product::<usize>() as u64;
        self.tensors.values().map(count).sum()
    }

    /// How they are stored there, such as `bf16` or `bf16, nf4`.
    pub fn formats(&self) -> String {
        let formats: BTreeSet<String> = self.tensors.values().map(Weight::format).collect();
        formats.into_iter().collect::<Vec<_>>().join(", ")
    }

    fn find(&self, name: &str) -> candle_core::Result<&Weight> {
        self.tensors.get(name).ok_or_else(|| {
            let mut names: Vec<&String> = self.tensors.keys().collect();
            names.sort_by_cached_key(|other| {
                let shared = name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b);
                (
                    strsim::levenshtein(name, other),
                    Reverse(shared.count()),
                    *other,
                )
            });
            let closest = names.into_iter().take(3).map(|name| self.tensors[name].name());
            Error::Msg(format!(
                "tensor {name} is missing, in any of the usual layouts of names; the closest there are {:?}",
                closest.collect::<Vec<_>>()
            ))
        })
    }
}

impl SimpleBackend for WeightFiles {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let tensor = self.find(name)?;
        if tensor.shape() != shape.dims() {
            return Err(Error::Msg(format!(
                "tensor {} has the shape {:?} in the file, and config.json says {:?}",
                tensor.name(),
                tensor.shape(),
                shape.dims()
            )));
        }
        tensor.read(dtype, device, &self.progress)
    }

    fn get_unchecked(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.find(name)?.read(dtype, device, &self.progress)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

fn weight_files(checkpoint: &Checkpoint) -> Result<BTreeSet<String>, CheckpointError> {
    let index: Option<Index> = checkpoint.json("model.safetensors.index.json")?;
    Ok(match index {
        Some(index) => index.weight_map.into_values().collect(),
        None => BTreeSet::from(["model.safetensors".to_owned()]),
    })
}

/// A tensor's name in this server, whichever of the layouts it comes from.
pub(super) fn uniform_name(name: &str) -> String {
    let name = name.strip_prefix("model.").unwrap_or(name);
    for (theirs, ours) in [
        ("language_model.model.", "language_model."),
        ("vision_tower.vision_model.", "vision_tower."),
    ] {
        if let Some(rest) = name.strip_prefix(theirs) {
            return format!("{ours}{rest}");
        }
    }
    name.to_owned()
}
