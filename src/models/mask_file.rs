//! The mask decoder's file, which lies beside a checkpoint and not inside it.

use std::path::Path;

use candle_core::npy::NpzTensors;
use candle_core::{DType, Device, Tensor, bail};
use candle_nn::VarBuilder;

use super::{MaskDecoder, reason};
use crate::checkpoint::CheckpointError;

/// Names in a checkpoint's folder: the published file's, and the same tensors as safetensors.
const FILES: [&str; 2] = ["vae-oid.npz", "vae-oid.safetensors"];
/// More values than all of a decoder's arrays have together.
const MOST_VALUES: usize = 1 << 24;
static DEMO: &[u8] = include_bytes!("../../models/demo/vae-oid.safetensors");

/// The demo's decoder.
///
/// # Errors
/// None that the tests would have let pass.
pub fn demo_mask_decoder() -> Result<MaskDecoder, CheckpointError> {
    let tensors = candle_core::safetensors::load_buffer(DEMO, &Device::Cpu);
    build(tensors, Path::new("demo/vae-oid.safetensors"))
}

/// The decoder in a checkpoint's folder, if there is one.
///
/// # Errors
/// When the file is damaged or something else.
pub fn mask_decoder_in(folder: &Path) -> Result<Option<MaskDecoder>, CheckpointError> {
    let mut paths = FILES.iter().map(|name| folder.join(name));
    paths
        .find(|path| path.exists())
        .map(|path| open_mask_decoder(&path))
        .transpose()
}

/// The decoder in a file: `.safetensors`, or NumPy's `.npz` as published. Its arrays are of f16 or
/// f32.
///
/// # Errors
/// When the file can't be read, is damaged or something else.
pub fn open_mask_decoder(path: &Path) -> Result<MaskDecoder, CheckpointError> {
    std::fs::metadata(path).map_err(|error| CheckpointError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    if path.extension().is_some_and(|it| it == "safetensors") {
        build(candle_core::safetensors::load(path, &Device::Cpu), path)
    } else {
        build(read_npz(path), path)
    }
}

/// The arrays of an archive, whose headers are checked before there is memory for what they claim.
fn read_npz(path: &Path) -> candle_core::Result<Vec<(String, Tensor)>> {
    let archive = NpzTensors::new(path)?;
    let mut arrays = Vec::new();
    let mut left = MOST_VALUES;
    for name in archive.names() {
        let (shape, _) = archive.get_shape_and_dtype(name)?;
        let sides = shape.dims().iter();
        let values = sides.fold(1, |values: usize, side| values.saturating_mul(*side));
        let Some(rest) = left.checked_sub(values) else {
            bail!("array {name:?} of shape {shape:?} makes it larger than any mask decoder");
        };
        left = rest;
        if let Some(array) = archive.get(name)? {
            arrays.push((name.clone(), array));
        }
    }
    Ok(arrays)
}

fn build(
    tensors: candle_core::Result<impl IntoIterator<Item = (String, Tensor)>>,
    path: &Path,
) -> Result<MaskDecoder, CheckpointError> {
    tensors
        .and_then(|tensors| {
            let tensors = tensors.into_iter().collect();
            let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
            MaskDecoder::load(&vb)
        })
        .map_err(|error| CheckpointError::MaskDecoder {
            path: path.to_owned(),
            reason: reason(&error),
        })
}
