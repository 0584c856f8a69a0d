//! Where a tensor lies in a safetensors file, and how it is read from there.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Error, Tensor};
use half::bf16;
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::error::CheckpointError;
use super::files::{Checkpoint, WeightBytes};
use super::finite::not_finite;
use crate::telemetry::load_progress::LoadProgress;

/// Where one tensor's bytes lie.
#[derive(Debug)]
pub struct StoredTensor {
    /// Its name in its file.
    pub(super) name: String,
    file: Arc<WeightBytes>,
    range: Range<usize>,
    pub(super) dtype: Dtype,
    pub shape: Vec<usize>,
}

impl StoredTensor {
    /// Its bytes in the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.file[self.range.clone()]
    }

    /// How many numbers it has.
    pub(super) fn values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Gives the memory of its bytes back, once they have been read.
    pub(super) fn release(&self) {
        self.file.release(self.range.clone());
    }

    /// The tensor in `dtype`, copied to `device`.
    ///
    /// # Errors
    /// When a number is not finite, the file holds no floating-point numbers, or memory runs out.
    pub fn read(
        &self,
        dtype: DType,
        device: &Device,
        progress: &LoadProgress,
    ) -> candle_core::Result<Tensor> {
        let stored = self.float_dtype()?;
        let bytes = self.bytes();
        if let Some(index) = not_finite(bytes, stored) {
            return Err(self.not_finite_at(index));
        }
        let tensor = match stored {
            DType::BF16 if dtype == DType::F32 && device.is_cpu() => {
                let values = widened(bytes, progress);
                Tensor::from_vec(values, self.shape.as_slice(), device)?
            }
            other => {
                let tensor = Tensor::from_raw_buffer(bytes, other, &self.shape, device)?;
                progress.advance(bytes.len() as u64);
                tensor
            }
        };
        self.release();
        tensor.to_dtype(dtype)
    }

    /// The error of a number, at an index of the tensor's, that is NaN or infinite.
    pub(super) fn not_finite_at(&self, index: usize) -> Error {
        Error::Msg(format!(
            "tensor {} holds a number that is not finite (NaN or infinity) at {index}: the checkpoint is damaged, or its training has diverged; get or convert it again",
            self.name
        ))
    }

    /// Integers are codes of some quantisation: without its scales they mean nothing.
    fn float_dtype(&self) -> candle_core::Result<DType> {
        match self.dtype {
            Dtype::F64 => Ok(DType::F64),
            Dtype::F32 => Ok(DType::F32),
            Dtype::F16 => Ok(DType::F16),
            Dtype::BF16 => Ok(DType::BF16),
            other => Err(Error::Msg(format!(
                "tensor {:?} is stored as {other}, in a quantisation that is not known here; use the checkpoint in bf16, f16 or f32",
                self.name
            ))),
        }
    }
}

/// bf16 to f32 on all cores; most checkpoints are in bf16, and candle's conversion uses one core.
fn widened(bytes: &[u8], progress: &LoadProgress) -> Vec<f32> {
    const CHUNK: usize = 1 << 18;
    let mut values = vec![0.0; bytes.len() / 2];
    let chunks = values
        .par_chunks_mut(CHUNK)
        .zip(bytes.par_chunks(2 * CHUNK));
    chunks.for_each(|(values, bytes)| {
        for (value, &bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
            *value = bf16::from_le_bytes(bytes).to_f32();
        }
        progress.advance(2 * values.len() as u64);
    });
    values
}

/// Adds a file's tensors under the names that `named` gives them; gives its bytes.
pub(super) fn add_tensors(
    checkpoint: &Checkpoint,
    name: &str,
    named: impl Fn(&str) -> String,
    tensors: &mut HashMap<String, StoredTensor>,
) -> Result<Arc<WeightBytes>, CheckpointError> {
    let bytes = checkpoint.weight_bytes(name)?;
    let truncated = || CheckpointError::Truncated {
        path: checkpoint.path(name),
        found: bytes.len(),
    };
    let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| match error {
        SafeTensorError::MetadataIncompleteBuffer
        | SafeTensorError::HeaderTooSmall
        | SafeTensorError::InvalidHeaderLength => truncated(),
        other => CheckpointError::Safetensors {
            path: checkpoint.path(name),
            reason: other.to_string(),
        },
    })?;
    // Eight bytes of length come before the header.
    let data = header + 8;
    let bytes = Arc::new(bytes);
    for (name, info) in metadata.tensors() {
        let uniform = named(&name);
        let tensor = StoredTensor {
            name,
            file: Arc::clone(&bytes),
            range: data + info.data_offsets.0..data + info.data_offsets.1,
            dtype: info.dtype,
            shape: info.shape.clone(),
        };
        tensors.insert(uniform, tensor);
    }
    Ok(bytes)
}
