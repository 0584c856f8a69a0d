//! Rows in tiles of bf16, multiplied with panels: how they are cut so that caches hold what is used
//! again.
//!
//! A block of rows stays in the second cache, as deep as it fits, while the panels of a task pass. The
//! weights of two panels stay in the first, a chunk deep, while the block's rows pass.

use std::ops::Range;

use super::bf16_rows::{Bf16Rows, PAIR, TILE_ROWS};
use super::isa::{COLUMNS, Isa};
use super::layout::{DEPTH, PackedFormat};
use super::packed::PackedWeight;
use super::tile::Sums;

/// Panels that are multiplied together: two tiles.
pub const TILE_PANELS: usize = 2;
/// The most rows of a block, and its depth in blocks of a panel: 1.2 MB together.
const BLOCK_ROWS: usize = 18 * PAIR;
const BLOCK_DEPTH: usize = 1024 / DEPTH;

/// A part of one or two panels, and the rows that it is multiplied with.
pub struct Part<'a> {
    pub rows: &'a Bf16Rows,
    /// Begins with a pair of tiles.
    pub block: Range<usize>,
    /// Blocks of the panels, beginning with a chunk.
    pub depth: Range<usize>,
    /// The first block of the first panel.
    pub weights: *const u8,
    /// Bytes from a panel to the next.
    pub panel_bytes: usize,
    /// At most [`TILE_PANELS`].
    pub panels: usize,
    /// The weights are of 4 bits, else of 8.
    pub nibbles: bool,
    /// Of the block's rows and those that fill up its last tile; two panels wide.
    pub sums: Sums,
}

/// Multiplies all rows with some panels, and gives the sums of each row and each two panels to
/// `finish`, with the number of the first of these panels.
///
/// # Safety
/// The processor has the instructions of `I`, which has tiles, and the rows are as deep as the weight.
#[inline(always)]
pub unsafe fn multiply_in_tiles<I: Isa>(
    rows: &Bf16Rows,
    weight: &PackedWeight,
    panels: Range<usize>,
    finish: impl Fn(usize, usize, &mut [f32]),
) {
    const STRIDE: usize = TILE_PANELS * COLUMNS;
    let panel_bytes = weight.shape.panel_bytes();
    let bytes = &weight.bytes()[panels.start * panel_bytes..panels.end * panel_bytes];
    let groups = panels.len().div_ceil(TILE_PANELS);
    let group_sums = BLOCK_ROWS.min(rows.rows.next_multiple_of(TILE_ROWS)) * STRIDE;
    let mut sums: Vec<f32> = Vec::with_capacity(groups * group_sums);
    for block in blocks(rows.rows) {
        for start in (0..weight.shape.blocks()).step_by(BLOCK_DEPTH) {
            for group in 0..groups {
                let first = group * TILE_PANELS;
                // SAFETY: the panels and the rows are there, and the sums have room for a block.
                unsafe {
                    I::run_tiles(&Part {
                        rows,
                        block: block.clone(),
                        depth: start..weight.shape.blocks().min(start + BLOCK_DEPTH),
                        weights: bytes.as_ptr().add(first * panel_bytes),
                        panel_bytes,
                        panels: TILE_PANELS.min(panels.len() - first),
                        nibbles: weight.shape.format == PackedFormat::Q4,
                        sums: Sums {
                            at: sums.as_mut_ptr().add(group * group_sums),
                            stride: STRIDE,
                            first: start == 0,
                        },
                    });
                }
            }
        }
        for group in 0..groups {
            let first = group * TILE_PANELS;
            let columns = TILE_PANELS.min(panels.len() - first) * COLUMNS;
            for (i, row) in block.clone().enumerate() {
                // SAFETY: the sums of the block's rows were written.
                let sums = unsafe {
                    let sums = sums.as_mut_ptr().add(group * group_sums + i * STRIDE);
                    std::slice::from_raw_parts_mut(sums, columns)
                };
                finish(row, panels.start + first, sums);
            }
        }
    }
}

/// Blocks of nearly the same number of rows.
fn blocks(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let size = rows
        .div_ceil(rows.div_ceil(BLOCK_ROWS))
        .next_multiple_of(PAIR);
    (0..rows)
        .step_by(size)
        .map(move |start| start..rows.min(start + size))
}
