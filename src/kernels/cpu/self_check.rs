//! A small computation that tells whether instructions do here what they should.

use super::instructions::Instructions;
use super::layout::{Arrangement, PackedFormat};
use super::packed::PackedWeight;
use super::product::{Epilogue, product};

/// Rows, depth and columns that fill no tile, no block and no panel.
const ROWS: usize = 21;
const DEPTH: usize = 200;
const COLUMNS: usize = 37;

/// Whether products in every format are those of plain Rust, bit by bit.
pub fn passes(instructions: Instructions) -> bool {
    let (x, weight) = (values(ROWS * DEPTH), values(COLUMNS * DEPTH));
    let rows: Vec<&[f32]> = weight.chunks(DEPTH).collect();
    [PackedFormat::F32, PackedFormat::Q8, PackedFormat::Q4]
        .into_iter()
        .all(|format| {
            let Ok(packed) = PackedWeight::new(&rows, format, Arrangement::InOrder) else {
                return false;
            };
            let bits = |instructions| -> Vec<u32> {
                let y = product(instructions, &packed, &x, Epilogue::default());
                y.into_iter().map(f32::to_bits).collect()
            };
            bits(instructions) == bits(Instructions::Portable)
        })
}

/// Values of both signs and of different sizes.
fn values(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (i as f32 * 0.37).sin() * (1 + i % 7) as f32)
        .collect()
}
