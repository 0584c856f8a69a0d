//! Memory-mapped safetensors, whatever layout their names follow.
//!
//! Three layouts are in use: the hub's original (`language_model.model.…`,
//! `vision_tower.vision_model.…`), transformers' names in memory (`model.language_model.…`), and
//! what transformers 5 saves (`language_model.model.…`, `vision_tower.encoder.…`). All become
//! `language_model.…`, `vision_tower.…` and `multi_modal_projector.…` here. An exported `lm_head`
//! is the token table once more and is not read.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Error, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use memmap2::{Mmap, UncheckedAdvice};
use safetensors::{SafeTensorError, SafeTensors};
use serde::Deserialize;

use super::CheckpointError;
use super::config::read_json;

/// Every tensor of a checkpoint by its uniform name.
#[derive(Debug, Clone)]
pub struct WeightFiles {
    tensors: Arc<HashMap<String, MappedTensor>>,
}

/// Where one tensor's bytes lie.
#[derive(Debug)]
struct MappedTensor {
    /// Its name in its file.
    name: String,
    file: Arc<Mmap>,
    start: usize,
    end: usize,
    dtype: DType,
    shape: Vec<usize>,
}

#[derive(Debug, Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

impl WeightFiles {
    /// Maps `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let mut tensors = HashMap::new();
        for path in weight_paths(folder)? {
            map_file(&path, &mut tensors)?;
        }
        Ok(Self {
            tensors: Arc::new(tensors),
        })
    }

    fn find(&self, name: &str) -> candle_core::Result<&MappedTensor> {
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

impl MappedTensor {
    fn read(&self, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let bytes = &self.file[self.start..self.end];
        let tensor = Tensor::from_raw_buffer(bytes, self.dtype, &self.shape, device)?;
        // SAFETY: the mapping is of a file, shared and read-only: pages that are dropped are read
        // again from the file when they are touched again.
        let released = unsafe {
            self.file.unchecked_advise_range(
                UncheckedAdvice::DontNeed,
                self.start,
                self.end - self.start,
            )
        };
        if let Err(error) = released {
            tracing::debug!(%error, "the pages of a tensor that was read could not be released");
        }
        tensor.to_dtype(dtype)
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
        if tensor.shape != shape.dims() {
            return Err(Error::Msg(format!(
                "tensor {} has the shape {:?} in the file, and config.json says {:?}",
                tensor.name,
                tensor.shape,
                shape.dims()
            )));
        }
        tensor.read(dtype, device)
    }

    fn get_unchecked(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.find(name)?.read(dtype, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

fn weight_paths(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let index: Option<Index> = read_json(&folder.join("model.safetensors.index.json"))?;
    let names = match index {
        Some(index) => index.weight_map.into_values().collect(),
        None => BTreeSet::from(["model.safetensors".to_owned()]),
    };
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn map_file(
    path: &Path,
    tensors: &mut HashMap<String, MappedTensor>,
) -> Result<(), CheckpointError> {
    let file = File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => CheckpointError::MissingFile {
            path: path.to_owned(),
        },
        _ => CheckpointError::Unreadable {
            path: path.to_owned(),
            source,
        },
    })?;
    // SAFETY: the file is only read. Whoever changes a checkpoint under a running server gets
    // other weights, or SIGBUS when it is cut; that is true of every server that maps its weights.
    let map = unsafe { Mmap::map(&file) }.map_err(|source| CheckpointError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let damaged = |reason: String| CheckpointError::Safetensors {
        path: path.to_owned(),
        reason,
    };
    let truncated = || CheckpointError::Truncated {
        path: path.to_owned(),
        found: map.len(),
    };
    let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|error| match error {
        SafeTensorError::MetadataIncompleteBuffer
        | SafeTensorError::HeaderTooSmall
        | SafeTensorError::InvalidHeaderLength => truncated(),
        other => damaged(other.to_string()),
    })?;
    // Eight bytes of length come before the header.
    let data = header + 8;
    let map = Arc::new(map);
    for (name, info) in metadata.tensors() {
        let dtype = DType::try_from(info.dtype).map_err(|error| damaged(error.to_string()))?;
        let uniform = uniform_name(&name);
        let tensor = MappedTensor {
            name,
            file: Arc::clone(&map),
            start: data + info.data_offsets.0,
            end: data + info.data_offsets.1,
            dtype,
            shape: info.shape.clone(),
        };
        tensors.insert(uniform, tensor);
    }
    Ok(())
}

/// A tensor's name in this server, whichever of the layouts it comes from.
fn uniform_name(name: &str) -> String {
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
