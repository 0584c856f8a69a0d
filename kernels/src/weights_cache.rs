//! Packed weights that are kept in a file, so that the next start maps them instead of making them.
//!
//! It is a safetensors file whose tensors are the packed bytes. Its name says what it was made of
//! and how: `{hash of the checkpoint}-{format}-{layout}-v{version}.safetensors`. So a file never
//! gets stale: what another checkpoint or release needs has another name. A checksum for each tensor
//! finds damage.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Result;
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::WeightFormat;
use super::cpu::{LAYOUT, MappedBytes, PackedShape, PackedWeight};

/// To be raised when packed weights change and their layout's name does not: how they are rounded,
/// or how this file is written.
const VERSION: u32 = 1;
/// Tensors begin at a multiple of this: a cache line. Their sizes are multiples of it, too.
const ALIGNMENT: usize = 64;

/// Packed weights by name: those of a file, and those that were packed because no file had them.
#[derive(Debug)]
pub struct WeightsCache {
    path: PathBuf,
    file: HashMap<String, MappedBytes>,
    /// What the model holds, in the order in which it was asked for.
    packed: Mutex<Vec<(String, Arc<PackedWeight>)>>,
}

/// How far the reading of a file of packed weights has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheProgress {
    /// There is a file, with that many bytes to be read.
    Begins { bytes: u64 },
    /// That many more have been read.
    Read { bytes: u64 },
}

/// Why a file of packed weights was not used, or not written.
#[derive(Debug, Error)]
enum CacheError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("it is no file of weights: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    #[error("tensor {0} has another checksum than it was written with")]
    Checksum(String),
}

impl WeightsCache {
    /// The cache in `folder` of the weights whose content has the given hash. A file that is damaged
    /// counts as none, with a warning. `told` hears how far reading it has come, from any thread.
    pub fn open(
        folder: &Path,
        hash: &str,
        format: WeightFormat,
        told: impl Fn(CacheProgress) + Sync,
    ) -> Self {
        let path = folder.join(format!("{hash}-{format}-{LAYOUT}-v{VERSION}.safetensors"));
        let file = match read(&path, told) {
            Ok(tensors) => {
                tracing::info!(path = %path.display(), "packed weights are read from the cache");
                tensors
            }
            Err(CacheError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                HashMap::new()
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cached weights can't be used and are made anew");
                HashMap::new()
            }
        };
        Self {
            path,
            file,
            packed: Mutex::default(),
        }
    }

    /// Whether there is a sound file, so that most weights need not be packed.
    pub fn is_filled(&self) -> bool {
        !self.file.is_empty()
    }

    /// The packed weight of that name: the file's, or what `pack` makes.
    ///
    /// # Errors
    /// Those of `pack`.
    pub(super) fn get_or_pack(
        &self,
        name: &str,
        shape: PackedShape,
        pack: impl FnOnce() -> Result<PackedWeight>,
    ) -> Result<Arc<PackedWeight>> {
        let mapped = self.file.get(name).cloned();
        let weight = match mapped.and_then(|bytes| PackedWeight::mapped(shape, bytes)) {
            Some(weight) => weight,
            None => pack()?,
        };
        let weight = Arc::new(weight);
        let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        packed.push((name.to_owned(), Arc::clone(&weight)));
        Ok(weight)
    }

    /// Writes the file unless it had everything. Without it, the next start is only slower: a failure
    /// is a warning.
    pub fn save(&self) {
        let packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if packed.iter().all(|(_, weight)| weight.is_mapped()) {
            return;
        }
        let path = self.path.display();
        match write(&self.path, &packed) {
            Ok(bytes) => {
                tracing::info!(%path, size = %bytesize::ByteSize(bytes as u64), "packed weights written to the cache")
            }
            Err(error) => {
                tracing::warn!(%path, %error, "packed weights could not be written to the cache")
            }
        }
    }
}

fn read(
    path: &Path,
    told: impl Fn(CacheProgress) + Sync,
) -> std::result::Result<HashMap<String, MappedBytes>, CacheError> {
    let file = File::open(path)?;
    // SAFETY: the file is only read. It is never changed in place: a new one takes its name.
    let map = Arc::new(unsafe { Mmap::map(&file) }?);
    let (header, metadata) = SafeTensors::read_metadata(&map)?;
    let data = header + 8;
    let checksums = metadata.metadata().clone().unwrap_or_default();
    let tensors: Vec<_> = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let (start, end) = info.data_offsets;
            (name, MappedBytes::new(&map, data + start..data + end))
        })
        .collect();
    told(CacheProgress::Begins {
        bytes: (map.len() - data) as u64,
    });
    tensors.par_iter().try_for_each(|(name, bytes)| {
        let sound = checksums.get(name) == Some(&checksum(bytes));
        told(CacheProgress::Read {
            bytes: bytes.len() as u64,
        });
        match sound {
            true => Ok(()),
            false => Err(CacheError::Checksum(name.clone())),
        }
    })?;
    Ok(tensors.into_iter().collect())
}

/// Writes a file beside its final place and then moves it there; gives its size. It need not have
/// reached the disk: after a power failure, the checksums tell.
fn write(
    path: &Path,
    packed: &[(String, Arc<PackedWeight>)],
) -> std::result::Result<usize, CacheError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    let header = header(packed);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let mut size = 8 + header.len();
    for (_, weight) in packed {
        file.write_all(weight.bytes())?;
        size += weight.bytes().len();
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(size)
}

/// The header of a safetensors file: where each tensor lies, and their checksums.
fn header(packed: &[(String, Arc<PackedWeight>)]) -> Vec<u8> {
    let checksums: Map<String, Value> = packed
        .par_iter()
        .map(|(name, weight)| (name.clone(), checksum(weight.bytes()).into()))
        .collect::<Vec<_>>()
        .into_iter()
        .collect();
    let mut header = Map::from_iter([("__metadata__".to_owned(), checksums.into())]);
    let mut start = 0;
    for (name, weight) in packed {
        let bytes = weight.bytes().len();
        let tensor = json!({
            "dtype": "U8",
            "shape": [bytes],
            "data_offsets": [start, start + bytes],
        });
        header.insert(name.clone(), tensor);
        start += bytes;
    }
    let mut header = Value::from(header).to_string().into_bytes();
    // Eight bytes of length come before the header.
    let whole = (8 + header.len()).next_multiple_of(ALIGNMENT);
    header.resize(whole - 8, b' ');
    header
}

fn checksum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
