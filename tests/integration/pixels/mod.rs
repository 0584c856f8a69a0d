//! Image bytes to the model's pixels: the same as Pillow, for every format, and safe on any input.

mod any_bytes;
mod goldens;
mod refusals;

use std::path::PathBuf;

use paligemma_server::pixels::{ImageLimits, Preprocessor};

const LIMITS: ImageLimits = ImageLimits {
    max_side: 8192,
    max_pixels: 16_000_000,
    memory: 1 << 30,
};

fn preprocessor(side: u32) -> Preprocessor {
    Preprocessor::new(side, LIMITS, 2)
}

/// A file of the goldens.
fn golden(path: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/pixels");
    let path = folder.join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
