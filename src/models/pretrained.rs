//! A checkpoint that has been understood: everything of it but the weights, which it can load.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;
use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;

use super::config::{self, ModelConfig};
use super::{Adapters, Model, PaliGemma, Resident, WeightFormat, reason};
use crate::checkpoint::adapter::{AdapterError, MergedWeights};
use crate::checkpoint::{Adapter, Checkpoint, CheckpointError, WeightFiles};
use crate::kernels::{CacheProgress, WeightsCache};
use crate::layers::Weights;
use crate::tokenizer::Tokenizer;

/// A PaliGemma's configuration and tokenizer, and where its weights are.
#[derive(Debug)]
pub struct Pretrained {
    pub config: ModelConfig,
    pub tokenizer: Arc<Tokenizer>,
    /// A folder that keeps packed weights, so that the next load of the same ones only maps them.
    pub weights_cache: Option<PathBuf>,
    /// Where it is, for people to read: a folder, or `demo`.
    pub path: PathBuf,
    pub weights: WeightFiles,
    /// Becomes a part of the weights while they are read.
    merged: Option<Arc<Adapter>>,
    /// Resident beside the base.
    pub adapters: Adapters,
}

impl Pretrained {
    /// Reads a folder's configuration, tokenizer and the weights' headers. Quick.
    ///
    /// # Errors
    /// When a file is missing, damaged, or not of a PaliGemma.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        Self::read(&Checkpoint::open(folder)?)
    }

    /// The demo, which is part of this binary.
    ///
    /// # Errors
    /// None that the tests would have let pass.
    pub fn demo() -> Result<Self, CheckpointError> {
        Self::read(&Checkpoint::Demo)
    }

    fn read(checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        checkpoint.refuse_foreign()?;
        let weights = match WeightFiles::open(checkpoint) {
            // The tensors' names tell another model, whatever else is missing or wrong.
            Err(foreign @ CheckpointError::Foreign { .. }) => return Err(foreign),
            opened => opened,
        };
        let parsed = config::read(checkpoint)?;
        let tokenizer = Tokenizer::open(checkpoint, parsed.eos_token_ids)?;
        let rows = parsed.model.text.vocab_size;
        if tokenizer.vocab_size() > rows {
            return Err(CheckpointError::MoreTokensThanRows {
                tokens: tokenizer.vocab_size(),
                rows,
            });
        }
        Ok(Self {
            config: parsed.model,
            tokenizer: Arc::new(tokenizer),
            weights_cache: None,
            path: checkpoint.name(),
            weights: weights?,
            merged: None,
            adapters: Adapters::default(),
        })
    }

    /// The same with an adapter that becomes a part of the weights.
    ///
    /// # Errors
    /// When it does not fit these.
    pub fn merge(self, adapter: Adapter) -> Result<Self, AdapterError> {
        let adapter = adapter.fit(&self.weights)?;
        adapter.check_merging(&self.weights)?;
        Ok(Self {
            merged: Some(Arc::new(adapter)),
            ..self
        })
    }

    /// Makes an adapter resident beside the base, under a name for which requests may ask.
    ///
    /// # Errors
    /// When it does not fit the base, or there is one of that name.
    pub fn add_adapter(&self, name: &str, adapter: Adapter) -> Result<(), AdapterError> {
        let resident = self.adapters.fit(name, adapter, &self.weights)?;
        self.adapters
            .insert(resident)
            .map_err(|resident| AdapterError::NameTaken(resident.name))
    }

    /// Reads the weights into `device`'s memory, quantising them on the way when `format` says so.
    /// Never holds more than one tensor twice.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the configuration says, or memory runs
    /// out.
    pub fn load(
        &self,
        device: &Device,
        format: WeightFormat,
    ) -> Result<PaliGemma, CheckpointError> {
        let progress = &self.weights.progress;
        progress.begin(self.weights.bytes());
        let model = self.read_model(device, format);
        progress.end();
        model
    }

    fn backend(&self) -> Box<dyn SimpleBackend> {
        let base = self.weights.clone();
        match self.merged.clone() {
            Some(adapter) => Box::new(MergedWeights { base, adapter }),
            None => Box::new(base),
        }
    }

    fn read_model(
        &self,
        device: &Device,
        format: WeightFormat,
    ) -> Result<PaliGemma, CheckpointError> {
        let progress = &self.weights.progress;
        let vb = VarBuilder::from_backend(self.backend(), DType::F32, device.clone());
        let mut weights = Weights::new(vb, format);
        let cache = self.weights_cache.as_deref().map(|folder| {
            let mut hash = self.weights.content_hash(folder);
            if let Some(adapter) = &self.merged {
                hash = adapter.merged_hash(&hash);
            }
            let told = |news| match news {
                CacheProgress::Begins { bytes } => {
                    progress.stage("checking cached weights");
                    progress.expect(bytes);
                }
                CacheProgress::Read { bytes } => progress.advance(bytes),
            };
            Arc::new(WeightsCache::open(folder, &hash, format, told))
        });
        match &cache {
            Some(cache) if cache.is_filled() => progress.skip(self.weights.bytes()),
            _ => progress.stage(match format {
                WeightFormat::Q8_0 | WeightFormat::Q4K => "reading and quantising",
                _ => "reading",
            }),
        }
        if let Some(cache) = &cache {
            weights = weights.with_cache(Arc::clone(cache));
        }
        let unusable = |error| CheckpointError::Weights(reason(&error));
        let vocab = self.tokenizer.vocab_size();
        let mut model = PaliGemma::load(&weights, &self.config, vocab).map_err(unusable)?;
        for Resident {
            name, id, adapter, ..
        } in self.adapters.all()
        {
            let bytes = model.add_adapter(id, &adapter).map_err(unusable)?;
            tracing::info!(
                name,
                path = %adapter.path.display(),
                rank = adapter.rank(),
                bytes = %ByteSize(bytes as u64),
                "adapter loaded"
            );
        }
        if let Some(cache) = cache {
            progress.stage("writing the cache");
            cache.save();
        }
        Ok(model)
    }
}
