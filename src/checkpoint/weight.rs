//! A weight as its files have it: plain numbers, or codes.

use candle_core::{DType, Device, Tensor};

use super::bitsandbytes::Quantized;
use super::stored::StoredTensor;
use crate::telemetry::load_progress::LoadProgress;

/// A weight as its files have it.
#[derive(Debug)]
pub enum Weight {
    Plain(StoredTensor),
    Quantized(Box<Quantized>),
}

impl Weight {
    /// Its name in its file.
    pub fn name(&self) -> &str {
        match self {
            Self::Plain(tensor) => &tensor.name,
            Self::Quantized(weight) => weight.name(),
        }
    }

    /// The shape that it has once it is read.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Plain(tensor) => &tensor.shape,
            Self::Quantized(weight) => &weight.shape,
        }
    }

    /// How many bytes it takes in the files.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Plain(tensor) => tensor.bytes().len() as u64,
            Self::Quantized(weight) => weight.bytes(),
        }
    }

    /// How it is stored, such as `bf16` or `nf4`.
    pub fn format(&self) -> String {
        match self {
            Self::Plain(tensor) => tensor.dtype.to_string().to_lowercase(),
            Self::Quantized(weight) => weight.format().to_owned(),
        }
    }

    /// The weight in `dtype` on `device`.
    ///
    /// # Errors
    /// When a number is not finite, or memory runs out.
    pub fn read(
        &self,
        dtype: DType,
        device: &Device,
        progress: &LoadProgress,
    ) -> candle_core::Result<Tensor> {
        match self {
            Self::Plain(tensor) => tensor.read(dtype, device, progress),
            Self::Quantized(weight) => weight.read(dtype, device, progress),
        }
    }
}
