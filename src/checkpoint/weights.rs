//! Safetensors that are read a tensor at a time, whatever layout their names follow.
//!
//! Three layouts are in use: the hub's original (`language_model.model.…`,
//! `vision_tower.vision_model.…`), transformers' names in memory (`model.language_model.…`), and
//! what transformers 5 saves (`language_model.model.…`, `vision_tower.encoder.…`). All become
//! `language_model.…`, `vision_tower.…` and `multi_modal_projector.…` here. An exported `lm_head`
//! is the token table once more and is not read.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Error, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use half::bf16;
use rayon::prelude::*;
use safetensors::{SafeTensorError, SafeTensors};
use serde::Deserialize;

use super::error::CheckpointError;
use super::files::{Checkpoint, WeightBytes};
use super::finite::not_finite;
use crate::telemetry::load_progress::LoadProgress;

/// Every tensor of a checkpoint by its uniform name.
#[derive(Debug, Clone)]
pub struct WeightFiles {
    pub(super) files: Vec<Arc<WeightBytes>>,
    tensors: Arc<HashMap<String, StoredTensor>>,
    /// Told of every byte that is read.
    pub progress: LoadProgress,
}

/// Where one tensor's bytes lie.
#[derive(Debug)]
pub struct StoredTensor {
    /// Its name in its file.
    name: String,
    file: Arc<WeightBytes>,
    range: Range<usize>,
    dtype: DType,
    pub shape: Vec<usize>,
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
    /// When a file is missing or damaged.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        let (mut files, mut tensors) = (Vec::new(), HashMap::new());
        for name in weight_files(checkpoint)? {
            files.push(add_tensors(checkpoint, &name, uniform_name, &mut tensors)?);
        }
        tensors.retain(|name, _| !name.contains("lm_head"));
        Ok(Self {
            files,
            tensors: Arc::new(tensors),
            progress: LoadProgress::default(),
        })
    }

    /// How many bytes a model's tensors have in the files.
    pub fn bytes(&self) -> u64 {
        let tensors = self.tensors.values();
        tensors.map(|tensor| tensor.range.len() as u64).sum()
    }

    /// Whether a tensor is there with the values of another one.
    ///
    /// # Errors
    /// When a number is not finite.
    pub(super) fn holds(&self, name: &str, other: &StoredTensor) -> candle_core::Result<bool> {
        let Some(own) = self.tensors.get(name) else {
            return Ok(false);
        };
        if own.shape != other.shape {
            return Ok(false);
        }
        if own.dtype == other.dtype {
            return Ok(own.file[own.range.clone()] == other.file[other.range.clone()]);
        }
        let values = |tensor: &StoredTensor| {
            let progress = LoadProgress::default();
            let tensor = tensor.read(DType::F32, &Device::Cpu, &progress)?;
            tensor.flatten_all()?.to_vec1::<f32>()
        };
        Ok(values(own)? == values(other)?)
    }

    /// The shape of a tensor, if it is there.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// How many numbers they are.
    pub fn values(&self) -> u64 {
        let count = |tensor: &StoredTensor| tensor.shape.iter().product::<usize>() as u64;
        self.tensors.values().map(count).sum()
    }

    /// The dtypes that they have there, such as `bf16`.
    pub fn dtypes(&self) -> String {
        let tensors = self.tensors.values();
        let dtypes: BTreeSet<&str> = tensors.map(|tensor| tensor.dtype.as_str()).collect();
        dtypes.into_iter().collect::<Vec<_>>().join(", ")
    }

    fn find(&self, name: &str) -> candle_core::Result<&StoredTensor> {
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
            let closest = names.into_iter().take(3).map(|name| &self.tensors[name].name);
            Error::Msg(format!(
                "tensor {name} is missing, in any of the usual layouts of names; the closest there are {:?}",
                closest.collect::<Vec<_>>()
            ))
        })
    }
}

impl StoredTensor {
    /// # Errors
    /// When a number is not finite, or memory runs out.
    pub fn read(
        &self,
        dtype: DType,
        device: &Device,
        progress: &LoadProgress,
    ) -> candle_core::Result<Tensor> {
        let bytes = &self.file[self.range.clone()];
        if let Some(index) = not_finite(bytes, self.dtype) {
            return Err(Error::Msg(format!(
                "tensor {} holds a number that is not finite (NaN or infinity) at {index}: the checkpoint is damaged, or its training has diverged; get or convert it again",
                self.name
            )));
        }
        let tensor = match self.dtype {
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
        self.file.release(self.range.clone());
        tensor.to_dtype(dtype)
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
        if tensor.shape != shape.dims() {
            return Err(Error::Msg(format!(
                "tensor {} has the shape {:?} in the file, and config.json says {:?}",
                tensor.name,
                tensor.shape,
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

/// Adds a file's tensors under the names that `named` gives them; gives its bytes.
pub(super) fn add_tensors(
    checkpoint: &Checkpoint,
    name: &str,
    named: impl Fn(&str) -> String,
    tensors: &mut HashMap<String, StoredTensor>,
) -> Result<Arc<WeightBytes>, CheckpointError> {
    let bytes = checkpoint.weight_bytes(name)?;
    let damaged = |reason: String| CheckpointError::Safetensors {
        path: checkpoint.path(name),
        reason,
    };
    let truncated = || CheckpointError::Truncated {
        path: checkpoint.path(name),
        found: bytes.len(),
    };
    let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| match error {
        SafeTensorError::MetadataIncompleteBuffer
        | SafeTensorError::HeaderTooSmall
        | SafeTensorError::InvalidHeaderLength => truncated(),
        other => damaged(other.to_string()),
    })?;
    // Eight bytes of length come before the header.
    let data = header + 8;
    let bytes = Arc::new(bytes);
    for (name, info) in metadata.tensors() {
        let dtype = DType::try_from(info.dtype)
            .map_err(|error| damaged(format!("{error}, in tensor {name}")))?;
        let uniform = named(&name);
        let tensor = StoredTensor {
            name,
            file: Arc::clone(&bytes),
            range: data + info.data_offsets.0..data + info.data_offsets.1,
            dtype,
            shape: info.shape.clone(),
        };
        tensors.insert(uniform, tensor);
    }
    Ok(bytes)
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
