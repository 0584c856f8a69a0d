//! A hub id, a folder or the demo in this binary becomes a configuration, weights and a tokenizer.

mod config;
mod error;
mod files;

mod masks;
mod npz;
mod placement;

mod weights;

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};
use candle_nn::VarBuilder;

pub use error::CheckpointError;
pub use files::Files;
pub use masks::{demo_mask_decoder, mask_decoder_in, open_mask_decoder};
pub use placement::{DeviceChoice, FormatChoice, Placement, PlacementError};

use crate::models::{ModelConfig, PaliGemma, WeightFormat, reason};

use crate::tokenizer::Tokenizer;
use weights::WeightFiles;

/// A checkpoint in the Hugging Face layout whose files have been found and understood; the weights
/// are not read yet.
#[derive(Debug)]
pub struct Checkpoint {
    pub config: ModelConfig,
    pub tokenizer: Arc<Tokenizer>,
    weights: WeightFiles,
}

impl Checkpoint {
    /// Reads a folder's configuration, tokenizer and the weights' headers. Quick.
    ///
    /// # Errors
    /// When a file is missing, damaged, or not of a PaliGemma.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        if !folder.is_dir() {
            return Err(CheckpointError::NoFolder(folder.to_owned()));
        }
        Self::read(Files::Folder(folder))
    }

    /// The demo, which is part of this binary.
    ///
    /// # Errors
    /// None that the tests would have let pass.
    pub fn demo() -> Result<Self, CheckpointError> {
        Self::read(Files::Demo)
    }

    fn read(files: Files) -> Result<Self, CheckpointError> {
        let parsed = config::read(files)?;
        let tokenizer = Tokenizer::open(files, parsed.eos_token_ids)?;
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
            weights: WeightFiles::open(files)?,
        })
    }

    /// Reads the weights into `device`'s memory, quantising them on the way when `format` says so.
    /// Never holds more than one tensor twice.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the configuration says, or memory runs
    /// out.
    pub fn load_model(
        &self,
        device: &Device,
        format: WeightFormat,
    ) -> Result<PaliGemma, CheckpointError> {
        let backend = Box::new(self.weights.clone());
        let vb = VarBuilder::from_backend(backend, DType::F32, device.clone());
        PaliGemma::load(&vb, &self.config, self.tokenizer.vocab_size(), format)
            .map_err(|error| CheckpointError::Weights(reason(&error)))
    }
}
