//! Weights in the order in which the kernels read them; the only copy in memory.
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

use half::f16;
use memmap2::MmapMut;
use rayon::prelude::*;

use super::isa::COLUMNS;
use super::quantize::{quantize_q4, quantize_q8};

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
    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => DEPTH * COLUMNS * size_of::<f32>(),
            Self::Q8 => DEPTH * COLUMNS + SCALES,
            Self::Q4 => DEPTH * COLUMNS / 2 + 2 * SCALES,
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

/// A weight `[out, in]`, packed.
#[derive(Debug)]
pub struct PackedWeight {
    pub format: PackedFormat,
    pub arrangement: Arrangement,
    pub out_features: usize,
    pub in_features: usize,
    memory: MmapMut,
}

impl PackedWeight {
    /// Packs rows of equal length.
    ///
    /// # Errors
    /// When memory runs out, or the weight can't be quantised.
    ///
    /// # Panics
    /// When half of the rows should be a gate, and they have no half.
    pub fn new(
        rows: &[&[f32]],
        format: PackedFormat,
        arrangement: Arrangement,
    ) -> candle_core::Result<Self> {
        assert!(arrangement == Arrangement::InOrder || rows.len().is_multiple_of(2));
        let in_features = rows.first().map_or(0, |row| row.len());
        let shape = Shape {
            arrangement,
            out_features: rows.len(),
            blocks: in_features.div_ceil(DEPTH),
        };
        let panel_bytes = shape.blocks * format.block_bytes();
        let mut memory = allocate(shape.panels() * panel_bytes)?;
        memory
            .par_chunks_mut(panel_bytes.max(1))
            .enumerate()
            .try_for_each(|(panel, bytes)| {
                let rows = &rows[shape.rows_of(panel)];
                rows.iter()
                    .enumerate()
                    .try_for_each(|(column, row)| pack_column(row, column, format, bytes))
            })?;
        Ok(Self {
            format,
            arrangement,
            out_features: rows.len(),
            in_features,
            memory,
        })
    }

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

    /// All panels, with those that a gate needs.
    pub fn panels(&self) -> usize {
        self.shape().panels()
    }

    /// Bytes of a panel.
    pub fn panel_bytes(&self) -> usize {
        self.blocks() * self.format.block_bytes()
    }

    /// The bytes of every panel, one after the other, aligned to a page.
    pub fn bytes(&self) -> &[u8] {
        &self.memory
    }

    /// Row `row` of the weight, as it is after rounding; `to` takes `in_features` values.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn unpack_row(&self, row: usize, to: &mut [f32]) {
        assert!(row < self.out_features, "no row {row}");
        assert_eq!(to.len(), self.in_features);
        let (panel, column) = self.shape().place_of(row);
        let panel = &self.memory[panel * self.panel_bytes()..][..self.panel_bytes()];
        for (block, to) in panel
            .chunks(self.format.block_bytes())
            .zip(to.chunks_mut(DEPTH))
        {
            for (k, to) in to.iter_mut().enumerate() {
                *to = value(self.format, block, column, k);
            }
        }
    }

    fn shape(&self) -> Shape {
        Shape {
            arrangement: self.arrangement,
            out_features: self.out_features,
            blocks: self.blocks(),
        }
    }
}

/// How rows are spread over panels.
#[derive(Debug, Clone, Copy)]
struct Shape {
    arrangement: Arrangement,
    out_features: usize,
    blocks: usize,
}

impl Shape {
    fn panels(self) -> usize {
        match self.arrangement {
            Arrangement::InOrder => self.out_features.div_ceil(COLUMNS),
            Arrangement::Gated => 2 * (self.out_features / 2).div_ceil(COLUMNS),
        }
    }

    fn rows_of(self, panel: usize) -> std::ops::Range<usize> {
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

    fn place_of(self, row: usize) -> (usize, usize) {
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

/// Zeroed memory, aligned to a page, in large pages where the system has them.
fn allocate(bytes: usize) -> std::io::Result<MmapMut> {
    let memory = MmapMut::map_anon(bytes.max(1))?;
    #[cfg(target_os = "linux")]
    if let Err(error) = memory.advise(memmap2::Advice::HugePage) {
        tracing::debug!(%error, "weights don't lie in large pages");
    }
    Ok(memory)
}

/// Writes a row of the weight as column `column` of a panel.
fn pack_column(
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
fn value(format: PackedFormat, block: &[u8], column: usize, k: usize) -> f32 {
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
