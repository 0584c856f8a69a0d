//! Activations rounded to 8 bits, with a scale for every 32.

use std::ops::Range;

use super::isa::{Isa, Work};
use super::layout::{DEPTH, GROUP};
use super::parallel::in_parallel;

/// What a group of 32 activations is multiplied with and corrected by.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct GroupScale {
    /// Not a number when one of the values is not finite.
    pub scale: f32,
    /// `-128 · Σ values`: weights of 8 bits are stored plus 128.
    pub correction: i32,
    /// `-scale · Σ values`: what a unit of a minimum adds.
    pub offset: f32,
}

impl GroupScale {
    /// Of a group with the given largest size of a value, and whose rounded values add up to `sum`,
    /// which may be anything if they are not finite.
    #[inline(always)]
    pub fn new(largest: f32, finite: bool, sum: i32) -> Self {
        let (scale, sum) = match finite {
            true => (step(largest), sum),
            false => (f32::NAN, 0),
        };
        Self {
            scale,
            correction: -128 * sum,
            offset: -scale * sum as f32,
        }
    }
}

/// What an activation is multiplied with before it is rounded.
#[inline(always)]
pub fn inverse_step(largest: f32) -> f32 {
    match step(largest) {
        0.0 => 0.0,
        step => 1.0 / step,
    }
}

/// What a unit of 8 bits is worth; 0 where that has no reciprocal.
#[inline(always)]
fn step(largest: f32) -> f32 {
    let step = largest / 127.0;
    if step < f32::MIN_POSITIVE { 0.0 } else { step }
}

/// Rows of 8 bits: `[blocks][rows][64]`, so that a tile's rows lie side by side.
#[derive(Debug)]
pub struct Activations<A> {
    pub rows: usize,
    values: Vec<A>,
    scales: Vec<[GroupScale; 2]>,
}

impl<A: Copy + Send + Sync> Activations<A> {
    /// Rounds whole rows, on all cores.
    pub fn new<I: Isa<Act = A>>(x: &[f32], in_features: usize) -> Self {
        let (rows, blocks) = (x.len() / in_features, in_features.div_ceil(DEPTH));
        let mut values = Vec::with_capacity(rows * blocks * DEPTH);
        let mut scales = Vec::with_capacity(rows * blocks);
        let work = Rounding::<I> {
            x,
            in_features,
            values: values.as_mut_ptr(),
            scales: scales.as_mut_ptr(),
        };
        // A value costs about as much as some ten multiplications.
        in_parallel(&work, rows, 10 * x.len());
        // SAFETY: every block of every row was written.
        unsafe {
            values.set_len(rows * blocks * DEPTH);
            scales.set_len(rows * blocks);
        }
        Self {
            rows,
            values,
            scales,
        }
    }

    /// 64 values of a row; those of the next row follow.
    pub fn values_at(&self, block: usize, row: usize) -> &[A] {
        &self.values[(block * self.rows + row) * DEPTH..]
    }

    /// The scales of 64 values of a row; those of the next row follow.
    pub fn scales_at(&self, block: usize, row: usize) -> &[[GroupScale; 2]] {
        &self.scales[block * self.rows + row..]
    }
}

/// Rows that are being rounded.
struct Rounding<'a, I: Isa> {
    x: &'a [f32],
    in_features: usize,
    /// With room for all blocks of all rows.
    values: *mut I::Act,
    scales: *mut [GroupScale; 2],
}

// SAFETY: threads write to the places of their own rows.
unsafe impl<I: Isa> Sync for Rounding<'_, I> {}

impl<I: Isa> Work<I> for Rounding<'_, I> {
    #[inline(always)]
    unsafe fn run(&self, parts: Range<usize>) {
        let rows = self.x.len() / self.in_features;
        for row in parts {
            let x = &self.x[row * self.in_features..][..self.in_features];
            for (block, x) in x.chunks(DEPTH).enumerate() {
                let at = block * rows + row;
                let mut padded = [0f32; DEPTH];
                let x = match x.as_array() {
                    Some(whole) => whole,
                    None => {
                        padded[..x.len()].copy_from_slice(x);
                        &padded
                    }
                };
                for half in 0..2 {
                    // SAFETY: a block has two groups, and lies within the rows' room.
                    unsafe {
                        let group = x.as_ptr().add(half * GROUP);
                        let to = self.values.add(at * DEPTH + half * GROUP);
                        let scale = I::round_activations(group, to);
                        (&raw mut (*self.scales.add(at))[half]).write(scale);
                    }
                }
            }
        }
    }
}
