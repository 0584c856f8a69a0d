//! The mask decoder, which lies beside a checkpoint and not inside it.

use std::fs::File;
use std::io::{BufReader, Cursor, ErrorKind};
use std::path::Path;

use candle_core::{DType, Device};
use candle_nn::VarBuilder;

use super::{MaskDecoder, reason};
use crate::checkpoint::{CheckpointError, npz};

/// The name of the published file.
const FILE: &str = "vae-oid.npz";
static DEMO: &[u8] = include_bytes!("../../models/demo/vae-oid.npz");

/// The demo's decoder.
///
/// # Errors
/// None that the tests would have let pass.
pub fn demo_mask_decoder() -> Result<MaskDecoder, CheckpointError> {
    load(Cursor::new(DEMO), &Path::new("demo").join(FILE))
}

/// The decoder in a checkpoint's folder, if there is one.
///
/// # Errors
/// When the file is damaged or something else.
pub fn mask_decoder_in(folder: &Path) -> Result<Option<MaskDecoder>, CheckpointError> {
    match open_mask_decoder(&folder.join(FILE)) {
        Err(CheckpointError::Unreadable { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok(None)
        }
        decoder => decoder.map(Some),
    }
}

/// The decoder in a file of the published layout.
///
/// # Errors
/// When the file can't be read, is damaged or something else.
pub fn open_mask_decoder(path: &Path) -> Result<MaskDecoder, CheckpointError> {
    let file = File::open(path).map_err(|source| CheckpointError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    load(BufReader::new(file), path)
}

fn load(
    file: impl std::io::Read + std::io::Seek,
    path: &Path,
) -> Result<MaskDecoder, CheckpointError> {
    let damaged = |reason: String| CheckpointError::MaskDecoder {
        path: path.to_owned(),
        reason,
    };
    let tensors = npz::read(file).map_err(|error| damaged(error.to_string()))?;
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    MaskDecoder::load(&vb).map_err(|error| damaged(reason(&error)))
}
