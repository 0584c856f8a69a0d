//! A small computation that tells whether instructions do here what they should.

use super::instructions::Instructions;
use super::layout::{Arrangement, PackedFormat};
use super::packed::PackedWeight;
use super::product::{Epilogue, product};

/// Rows, depth and columns that fill no tile, no block and no panel.
const ROWS: usize = 21;
const DEPTH: usize = 200;
const COLUMNS: usize = 37;

/// How far products in tiles of bf16 may be from others, in parts of the largest.
const TILES_ERROR: f32 = 0.02;

/// Whether products in every format are those of plain Rust, bit by bit; in tiles of bf16, nearly.
pub fn passes(instructions: Instructions) -> bool {
    let (x, weight) = (values(ROWS * DEPTH), values(COLUMNS * DEPTH));
    let rows: Vec<&[f32]> = weight.chunks(DEPTH).collect();
    [PackedFormat::F32, PackedFormat::Q8, PackedFormat::Q4]
        .into_iter()
        .all(|format| {
            let Ok(packed) = PackedWeight::new(&rows, format, Arrangement::InOrder) else {
                return false;
            };
            let product =
                |instructions, many| product(instructions, &packed, &x, many, Epilogue::default());
            let bits = |y: &[f32]| -> Vec<u32> { y.iter().map(|y| y.to_bits()).collect() };
            let right = product(Instructions::Portable, 0);
            bits(&product(instructions, 0)) == bits(&right)
                && are_near(&product(instructions, ROWS), &right)
        })
}

fn are_near(y: &[f32], right: &[f32]) -> bool {
    let largest = right
        .iter()
        .fold(0.0, |largest: f32, y| largest.max(y.abs()));
    let mut pairs = y.iter().zip(right);
    pairs.all(|(y, right)| (y - right).abs() <= TILES_ERROR * largest)
}

/// Values of both signs and of different sizes.
fn values(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (i as f32 * 0.37).sin() * (1 + i % 7) as f32)
        .collect()
}
