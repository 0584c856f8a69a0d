//! The product of rows with a packed weight, on all cores.

use std::ops::Range;

use super::activations::Activations;
use super::bf16_rows::Bf16Rows;
use super::gelu::gelu_tanh;
use super::instructions::{Instructions, dispatch};
use super::isa::{COLUMNS, Isa, Work};
use super::layout::{Arrangement, DEPTH, PackedFormat};
use super::packed::PackedWeight;
use super::parallel::in_parallel;
use super::tile::{ByteTile, FloatTile, MAX_BLOCKS, Sums, run_byte_rows, run_floats};
use super::tiled_product::{TILE_PANELS, multiply_in_tiles};
use super::up_panels::RowUpdate;

/// Parts of a product in tiles for each thread: few, so that many panels meet the same rows.
const TILED_PARTS_PER_THREAD: usize = 4;
/// The most panels of such a part, in twos: what is summed up of them stays in the second cache.
const MAX_PART: usize = 16;

/// What happens to a product's values before they are stored: `gelu(y + update + bias) + residual`. A
/// gated product has nothing of it but the updates.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// One for each row, or none at all.
    pub updates: &'a [Option<RowUpdate<'a>>],
    /// A value for each output.
    pub bias: Option<&'a [f32]>,
    pub gelu: bool,
    /// `[rows, out]`, added last.
    pub residual: Option<&'a [f32]>,
}

/// `x · Wᵀ` for `x` `[rows, in]`; gives `[rows, out]`, or `[rows, out / 2]` for a gated weight:
/// `gelu(gate) · up`.
///
/// Where there are tiles of bf16, the first `many` rows go through them if the weight is quantised.
/// All others are rounded to 8 bits. A caller decides by what a row is, not by how many there are, so
/// that a row is the same alone and in company.
///
/// # Panics
/// When `x` or the epilogue have other sizes, or the processor lacks the instructions.
pub fn product(
    instructions: Instructions,
    weight: &PackedWeight,
    x: &[f32],
    many: usize,
    epilogue: Epilogue<'_>,
) -> Vec<f32> {
    dispatch!(instructions, I => run::<I>(weight, x, many, epilogue))
}

fn run<I: Isa>(weight: &PackedWeight, x: &[f32], many: usize, epilogue: Epilogue<'_>) -> Vec<f32> {
    let depth = weight.shape.in_features;
    assert_eq!(x.len() % depth, 0, "x is not whole rows");
    let rows = x.len() / depth;
    assert!(many <= rows, "{many} of {rows} rows");
    let width = weight.shape.width();
    assert!(epilogue.updates.is_empty() || epilogue.updates.len() == rows);
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == width));
    assert!(epilogue.residual.is_none_or(|it| it.len() == rows * width));
    let quantized = weight.shape.format != PackedFormat::F32;
    let in_tiles = if I::TILES && quantized { many } else { 0 };
    let (tiled, rest) = x.split_at(in_tiles * depth);
    let tiles = (in_tiles > 0).then(|| Bf16Rows::new::<I>(tiled, depth, DEPTH));
    let activations = quantized.then(|| Activations::new::<I>(rest, depth));
    let mut out = Vec::with_capacity(rows * width);
    let job = Product::<I> {
        weight,
        rows: rest.len() / depth,
        x: rest,
        activations: activations.as_ref(),
        tiles: tiles.as_ref(),
        epilogue,
        out: out.as_mut_ptr(),
    };
    let parts = weight.shape.panels().div_ceil(job.part_panels());
    let work = rows * depth * weight.shape.out_features;
    in_parallel(&job, parts, work);
    // SAFETY: the parts wrote every column of every row.
    unsafe { out.set_len(rows * width) }
    out
}

/// A product that is being computed, some panels at a time.
struct Product<'a, I: Isa> {
    weight: &'a PackedWeight,
    /// Rows that go through tiles of bf16; they come first.
    tiles: Option<&'a Bf16Rows>,
    /// All others.
    rows: usize,
    x: &'a [f32],
    /// `None`: the weight is of floats.
    activations: Option<&'a Activations<I::Act>>,
    epilogue: Epilogue<'a>,
    out: *mut f32,
}

// SAFETY: threads write to columns of their own; all else is read.
unsafe impl<I: Isa> Sync for Product<'_, I> {}

impl<I: Isa> Product<'_, I> {
    /// Panels whose columns are finished together, for rows that don't go through tiles.
    fn group_panels(&self) -> usize {
        match self.weight.shape.arrangement {
            Arrangement::InOrder => I::PANELS,
            // A gate with its counterpart.
            Arrangement::Gated if I::PANELS.is_multiple_of(2) => I::PANELS,
            Arrangement::Gated => 2 * I::PANELS,
        }
    }

    /// Panels that are one part of the work.
    fn part_panels(&self) -> usize {
        match self.tiles {
            None => self.group_panels(),
            Some(_) => {
                let all = self.weight.shape.panels() / TILE_PANELS;
                let share = all / (TILED_PARTS_PER_THREAD * rayon::current_num_threads());
                share.clamp(1, MAX_PART) * TILE_PANELS
            }
        }
    }
}

impl<I: Isa> Work<I> for Product<'_, I> {
    #[inline(always)]
    unsafe fn run(&self, parts: Range<usize>) {
        let (all, part_panels) = (self.weight.shape.panels(), self.part_panels());
        let tiled = self.tiles.map_or(0, |tiles| tiles.rows);
        for part in parts {
            let panels = part * part_panels..all.min((part + 1) * part_panels);
            // SAFETY: the caller's; the rows are as deep as the weight.
            unsafe {
                if let Some(tiles) = self.tiles {
                    let finish = |row, panel, sums: &mut [f32]| finish_row(self, row, panel, sums);
                    multiply_in_tiles::<I>(tiles, self.weight, panels.clone(), finish);
                }
                multiply_panels(self, tiled, panels);
            }
        }
    }
}

/// Computes some panels for all rows that don't go through tiles; `tiled` rows come before them.
#[inline(always)]
unsafe fn multiply_panels<I: Isa>(job: &Product<'_, I>, tiled: usize, panels: Range<usize>) {
    if job.rows == 0 {
        return;
    }
    let group_panels = job.group_panels();
    let mut sums: Vec<f32> = Vec::with_capacity(job.rows * group_panels * COLUMNS);
    for first in panels.clone().step_by(group_panels) {
        let panels = group_panels.min(panels.end - first);
        let sums_stride = panels * COLUMNS;
        for start in (0..panels).step_by(I::PANELS) {
            let count = I::PANELS.min(panels - start);
            // SAFETY: the panels are the weight's, and the sums have room for their columns.
            unsafe {
                let sums = sums.as_mut_ptr().add(start * COLUMNS);
                sum_panels(job, first + start, count, sums, sums_stride);
            }
        }
        // SAFETY: every sum of the group was written.
        let sums =
            unsafe { std::slice::from_raw_parts_mut(sums.as_mut_ptr(), job.rows * sums_stride) };
        for (row, sums) in sums.chunks_exact_mut(sums_stride).enumerate() {
            // SAFETY: the columns are this part's.
            unsafe { finish_row(job, tiled + row, first, sums) }
        }
    }
}

/// The sums of up to [`Isa::PANELS`] panels for all rows that don't go through tiles.
#[inline(always)]
unsafe fn sum_panels<I: Isa>(
    job: &Product<'_, I>,
    first: usize,
    panels: usize,
    sums: *mut f32,
    sums_stride: usize,
) {
    let weight = job.weight;
    let panel_bytes = weight.shape.panel_bytes();
    let panel = weight.bytes()[first * panel_bytes..][..panels * panel_bytes].as_ptr();
    let (blocks, block_bytes) = (weight.shape.blocks(), weight.shape.format.block_bytes());
    for chunk in (0..blocks).step_by(MAX_BLOCKS) {
        let count = MAX_BLOCKS.min(blocks - chunk);
        // SAFETY: the chunk's blocks are the panel's, and the rows those of the job.
        unsafe {
            let weights = panel.add(chunk * block_bytes);
            let sums_of = |row: usize| Sums {
                at: sums.add(row * sums_stride),
                stride: sums_stride,
                first: chunk == 0,
            };
            match job.activations {
                Some(activations) => {
                    let tile = ByteTile {
                        weights,
                        panel_bytes,
                        blocks: count,
                        blocks_left: blocks - chunk,
                        activations: activations.values_at(chunk, 0).as_ptr(),
                        scales: activations.scales_at(chunk, 0).as_ptr(),
                        stride: activations.rows,
                        sums: sums_of(0),
                    };
                    match weight.shape.format {
                        PackedFormat::Q4 => run_byte_rows::<I, true>(&tile, job.rows, panels),
                        _ => run_byte_rows::<I, false>(&tile, job.rows, panels),
                    }
                }
                None => {
                    let start = chunk * DEPTH;
                    let depth = (count * DEPTH).min(weight.shape.in_features - start);
                    for row in (0..job.rows).step_by(I::FLOAT_ROWS) {
                        let tile = FloatTile {
                            weights: weights.cast(),
                            panel_stride: panel_bytes / size_of::<f32>(),
                            depth_stride: COLUMNS,
                            depth,
                            activations: job.x.as_ptr().add(row * weight.shape.in_features + start),
                            stride: weight.shape.in_features,
                            sums: sums_of(row),
                        };
                        let rows = I::FLOAT_ROWS.min(job.rows - row);
                        run_floats::<I>(&tile, rows, panels);
                    }
                }
            }
        }
    }
}

/// Stores a row's sums of a group whose first panel is `panel`, through the epilogue.
#[inline(always)]
unsafe fn finish_row<I: Isa>(job: &Product<'_, I>, row: usize, panel: usize, sums: &mut [f32]) {
    if let Some(Some(update)) = job.epilogue.updates.get(row) {
        // SAFETY: the caller's.
        unsafe { update.add::<I>(panel, sums) }
    }
    let width = job.weight.shape.width();
    let gated = job.weight.shape.arrangement == Arrangement::Gated;
    // Panels of gates and of what they multiply alternate.
    let start = if gated { panel / 2 } else { panel } * COLUMNS;
    let columns = if gated { sums.len() / 2 } else { sums.len() }.min(width - start);
    // SAFETY: `out` has room for all rows, and no other thread writes these columns.
    let out = unsafe {
        let out = job.out.add(row * width + start);
        std::slice::from_raw_parts_mut(out.cast::<std::mem::MaybeUninit<f32>>(), columns)
    };
    if gated {
        let pairs = sums.chunks_exact(2 * COLUMNS);
        for (out, pair) in out.chunks_mut(COLUMNS).zip(pairs) {
            let (gate, up) = pair.split_at(COLUMNS);
            for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
                out.write(gelu_tanh(gate) * up);
            }
        }
        return;
    }
    let Epilogue {
        bias,
        gelu,
        residual,
        ..
    } = job.epilogue;
    let bias = bias.map(|bias| &bias[start..start + columns]);
    let residual = residual.map(|it| &it[row * width + start..][..columns]);
    for (i, (out, &mut sum)) in out.iter_mut().zip(sums).enumerate() {
        let y = bias.map_or(sum, |bias| sum + bias[i]);
        let y = if gelu { gelu_tanh(y) } else { y };
        out.write(residual.map_or(y, |residual| residual[i] + y));
    }
}
