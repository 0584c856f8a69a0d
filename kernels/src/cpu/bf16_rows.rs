//! Rows rounded to bf16, in the order in which tiles take them.

use std::ops::Range;

use super::isa::{Isa, Work};
use super::parallel::in_parallel;

/// Rows of a tile.
pub const TILE_ROWS: usize = 16;
/// Rows that are multiplied together: two tiles.
pub const PAIR: usize = 2 * TILE_ROWS;
/// Values of a row in a tile.
pub const STEP: usize = 32;
/// Values of two tiles of rows.
pub const PAIR_STEP: usize = PAIR * STEP;
/// Steps of a chunk: its weights, of two panels, stay in the first cache while all rows pass.
pub const CHUNK: usize = 8;

/// Rows of bf16: `[chunks][pairs][steps of the chunk][32 rows][32 values]`, zeros where there is no row
/// and no value. So the rows of a chunk are read in the order in which they lie.
#[derive(Debug)]
pub struct Bf16Rows {
    pub rows: usize,
    values: Vec<u16>,
}

impl Bf16Rows {
    /// Rounds whole rows, on all cores; their values are padded to a multiple of `depth`.
    pub fn new<I: Isa>(x: &[f32], in_features: usize, depth: usize) -> Self {
        let rows = x.len() / in_features;
        let steps = in_features.next_multiple_of(depth) / STEP;
        let size = rows.div_ceil(PAIR) * steps * PAIR_STEP;
        let mut values = Vec::with_capacity(size);
        let work = Rounding {
            x,
            in_features,
            pairs: rows.div_ceil(PAIR),
            steps,
            values: values.as_mut_ptr(),
        };
        let parts = work.pairs * steps.div_ceil(CHUNK);
        in_parallel::<I, _>(&work, parts, 10 * x.len());
        // SAFETY: every chunk of every pair was written.
        unsafe { values.set_len(size) }
        Self { rows, values }
    }

    /// The values of a chunk of `steps` steps whose first is `step`, from the pair that begins with
    /// `row` on.
    pub fn chunk_at(&self, step: usize, steps: usize, row: usize) -> &[u16] {
        let pairs = self.rows.div_ceil(PAIR);
        let chunk = &self.values[step * pairs * PAIR_STEP..][..steps * pairs * PAIR_STEP];
        &chunk[row / PAIR * steps * PAIR_STEP..]
    }
}

/// Rows that are being rounded.
struct Rounding<'a> {
    x: &'a [f32],
    in_features: usize,
    pairs: usize,
    steps: usize,
    /// With room for all steps of all rows of all pairs.
    values: *mut u16,
}

// SAFETY: threads write to the places of their own rows.
unsafe impl Sync for Rounding<'_> {}

impl<I: Isa> Work<I> for Rounding<'_> {
    /// A part is a chunk of a pair, and is written from its beginning to its end.
    #[inline(always)]
    unsafe fn run(&self, parts: Range<usize>) {
        for part in parts {
            let (first, pair) = (part / self.pairs * CHUNK, part % self.pairs);
            let steps = CHUNK.min(self.steps - first);
            let start = first * self.pairs + pair * steps;
            for step in 0..steps {
                for row in 0..PAIR {
                    let rounded = self.round(pair * PAIR + row, (first + step) * STEP);
                    // SAFETY: there is room for all rows of all steps of the pair.
                    unsafe {
                        let to = self.values.add(((start + step) * PAIR + row) * STEP);
                        to.cast::<[u16; STEP]>().write(rounded);
                    }
                }
            }
        }
    }
}

impl Rounding<'_> {
    /// A step of a row from its value `k` on; zeros behind its end, and where there is no row.
    #[inline(always)]
    fn round(&self, row: usize, k: usize) -> [u16; STEP] {
        let row = self.x.get(row * self.in_features..).unwrap_or_default();
        let row = &row[..row.len().min(self.in_features)];
        let x = row.get(k..).unwrap_or_default();
        let mut padded = [0f32; STEP];
        let x = match x.first_chunk() {
            Some(whole) => whole,
            None => {
                padded[..x.len()].copy_from_slice(x);
                &padded
            }
        };
        let mut rounded = [0; STEP];
        for (to, &x) in rounded.iter_mut().zip(x) {
            *to = round(x);
        }
        rounded
    }
}

/// The nearest bf16, the even one of two.
#[inline(always)]
fn round(value: f32) -> u16 {
    const NAN: u16 = 0x7fc0;
    let bits = value.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    if value.is_nan() { NAN } else { rounded }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    #[test]
    fn values_are_rounded_as_half_does() {
        let mut bits = 1u32;
        for _ in 0..100_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(bits);
            let (ours, theirs) = (bf16::from_bits(super::round(value)), bf16::from_f32(value));
            assert!(ours == theirs || value.is_nan() && ours.is_nan(), "{value}");
        }
        for value in [
            0.0,
            -0.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            1.003_906_3,
        ] {
            assert_eq!(
                super::round(value),
                bf16::from_f32(value).to_bits(),
                "{value}"
            );
        }
        assert!(bf16::from_bits(super::round(f32::NAN)).is_nan());
    }
}
