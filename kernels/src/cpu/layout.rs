//! The order in which the kernels read weights.
//!
//! 16 rows of the weight, which are 16 columns of the product, form a panel. A panel is a sequence
//! of blocks of 64 weights of each column:
//!
//! | format | a block | bytes |
//! |---|---|---|
//! | f32 | 64 × 16 floats | 4096 |
//! | q8_0 | 16 × 16 × 4 bytes, 2 × 16 scales | 1088 |
//! | q4k | 8 × 16 × 4 bytes, 2 × 16 scales, 2 × 16 minima | 640 |
//!
//! Four weights of a column lie side by side, as a dot product of bytes wants them. A scale counts
//! for 32 weights. Bytes of q8_0 are the weight plus 128; a byte of q4k has a weight of the block's
//! first half in its lower bits and one of the second half in its upper bits.

use std::ops::Range;

use half::f16;

use super::isa::COLUMNS;
use super::quantize::{quantize_q4, quantize_q8};

/// The name of this order: what else is packed in another way bears another one.
pub const LAYOUT: &str = "panels16x64";
/// Weights of one column in a block.
pub const DEPTH: usize = 64;
/// Weights that share a scale.
pub const GROUP: usize = 32;

/// How packed weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackedFormat {
    F32,
    Q8,
    Q4,
}

/// Bytes of the scales of a block of [`PackedFormat::Q8`], and of those and the minima of
/// [`PackedFormat::Q4`].
const SCALES: usize = 2 * COLUMNS * size_of::<f16>();

impl PackedFormat {
    /// Bytes of the weights of a block, which its scales follow.
    pub const fn quant_bytes(self) -> usize {
        match self {
            Self::F32 => DEPTH * COLUMNS * size_of::<f32>(),
            Self::Q8 => DEPTH * COLUMNS,
            Self::Q4 => DEPTH * COLUMNS / 2,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => self.quant_bytes(),
            Self::Q8 => self.quant_bytes() + SCALES,
            Self::Q4 => self.quant_bytes() + 2 * SCALES,
        }
    }
}

/// Which rows of a weight lie side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrangement {
    InOrder,
    /// The upper half of the rows is a gate, the lower half what it multiplies; their panels
    /// alternate, so that both are there when an output is.
    Gated,
}

/// What a packed weight holds, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedShape {
    pub format: PackedFormat,
    pub arrangement: Arrangement,
    pub out_features: usize,
    pub in_features: usize,
}

impl PackedShape {
    /// Values of a row of the product: half of the weight's rows if it is gated.
    pub fn width(&self) -> usize {
        match self.arrangement {
            Arrangement::InOrder => self.out_features,
            Arrangement::Gated => self.out_features / 2,
        }
    }

    /// Blocks of a panel.
    pub fn blocks(&self) -> usize {
        self.in_features.div_ceil(DEPTH)
    }

    /// Bytes of a panel.
    pub fn panel_bytes(&self) -> usize {
        self.blocks() * self.format.block_bytes()
    }

    /// Bytes of all panels.
    pub fn size(&self) -> usize {
        self.panels() * self.panel_bytes()
    }

    /// All panels, with those that a gate needs.
    pub fn panels(&self) -> usize {
        match self.arrangement {
            Arrangement::InOrder => self.out_features.div_ceil(COLUMNS),
            Arrangement::Gated => 2 * (self.out_features / 2).div_ceil(COLUMNS),
        }
    }

    /// The weight's rows that are columns of a panel.
    pub fn rows_of(&self, panel: usize) -> Range<usize> {
        match self.arrangement {
            Arrangement::InOrder => {
                let start = panel * COLUMNS;
                start..self.out_features.min(start + COLUMNS)
            }
            Arrangement::Gated => {
                let width = self.out_features / 2;
                let start = panel / 2 * COLUMNS;
                let offset = panel % 2 * width;
                offset + start..offset + width.min(start + COLUMNS)
            }
        }
    }

    /// The panel of a row of the weight, and its column there.
    pub fn place_of(&self, row: usize) -> (usize, usize) {
        match self.arrangement {
            Arrangement::InOrder => (row / COLUMNS, row % COLUMNS),
            Arrangement::Gated => {
                let width = self.out_features / 2;
                let (half, row) = (row / width, row % width);
                (row / COLUMNS * 2 + half, row % COLUMNS)
            }
        }
    }
}

/// Writes a row of the weight as column `column` of a panel.
pub fn pack_column(
    row: &[f32],
    column: usize,
    format: PackedFormat,
    panel: &mut [u8],
) -> candle_core::Result<()> {
    let blocks = panel.chunks_mut(format.block_bytes());
    match format {
        PackedFormat::F32 => {
            for (row, block) in row.chunks(DEPTH).zip(blocks) {
                for (k, value) in row.iter().enumerate() {
                    write(block, (k * COLUMNS + column) * 4, value.to_le_bytes());
                }
            }
        }
        PackedFormat::Q8 => {
            for (row, block) in row.chunks(DEPTH).zip(blocks) {
                for half in 0..2 {
                    let group = row.get(half * GROUP..).unwrap_or_default();
                    let (scale, values) = quantize_q8(&group[..group.len().min(GROUP)]);
                    for (i, four) in values.chunks_exact(4).enumerate() {
                        let at = ((half * GROUP / 4 + i) * COLUMNS + column) * 4;
                        block[at..at + 4].copy_from_slice(four);
                    }
                    let at = DEPTH * COLUMNS + (half * COLUMNS + column) * 2;
                    write(block, at, scale.to_le_bytes());
                }
            }
        }
        PackedFormat::Q4 => {
            let groups = quantize_q4(row)?;
            for (groups, block) in groups.chunks(2).zip(blocks) {
                for (half, group) in groups.iter().enumerate() {
                    for (k, value) in group.values.iter().enumerate() {
                        let at = (k / 4 * COLUMNS + column) * 4 + k % 4;
                        block[at] |= value << (4 * half);
                    }
                    let at = DEPTH * COLUMNS / 2 + (half * COLUMNS + column) * 2;
                    write(block, at, group.scale.to_le_bytes());
                    write(block, at + SCALES, group.min.to_le_bytes());
                }
            }
        }
    }
    Ok(())
}

/// Weight `k` of a column in a block.
pub fn value(format: PackedFormat, block: &[u8], column: usize, k: usize) -> f32 {
    let half_at = |at: usize| f32::from(f16::from_le_bytes(read(block, at)));
    let half = k / GROUP;
    match format {
        PackedFormat::F32 => f32::from_le_bytes(read(block, (k * COLUMNS + column) * 4)),
        PackedFormat::Q8 => {
            let byte = block[(k / 4 * COLUMNS + column) * 4 + k % 4];
            let scale = half_at(DEPTH * COLUMNS + (half * COLUMNS + column) * 2);
            (f32::from(byte) - 128.0) * scale
        }
        PackedFormat::Q4 => {
            let at = k % GROUP;
            let byte = block[(at / 4 * COLUMNS + column) * 4 + at % 4];
            let at = DEPTH * COLUMNS / 2 + (half * COLUMNS + column) * 2;
            f32::from(byte >> (4 * half) & 15) * half_at(at) - half_at(at + SCALES)
        }
    }
}

fn write<const N: usize>(block: &mut [u8], at: usize, bytes: [u8; N]) {
    block[at..at + N].copy_from_slice(&bytes);
}

fn read<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| block[at + i])
}
