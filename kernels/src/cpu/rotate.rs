//! Rotary positions.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::heads::Heads;
use super::instructions::{Instructions, dispatch};
use super::isa::{Isa, Work};
use super::parallel::in_parallel;

/// Rotates pairs of values, the first half's with the second half's, by each row's angles
/// `[rows, width / 2]` (Su et al., arXiv 2104.09864); gives `[rows, heads, width]`.
///
/// # Panics
/// When the sizes don't fit together.
pub fn rotate(instructions: Instructions, x: Heads<'_>, cos: &[f32], sin: &[f32]) -> Vec<f32> {
    x.check();
    assert_eq!((cos.len(), sin.len()), (x.rows * x.width / 2, cos.len()));
    dispatch!(instructions, I => {
        let mut out = Vec::with_capacity(x.rows * x.heads * x.width);
        let work = Rotate { x, cos, sin, out: out.as_mut_ptr() };
        in_parallel::<I, _>(&work, x.rows, 4 * x.rows * x.heads * x.width);
        // SAFETY: the parts wrote every row.
        unsafe { out.set_len(x.rows * x.heads * x.width) }
        out
    })
}

struct Rotate<'a> {
    x: Heads<'a>,
    cos: &'a [f32],
    sin: &'a [f32],
    /// With room for all rows.
    out: *mut f32,
}

// SAFETY: threads write to rows of their own.
unsafe impl Sync for Rotate<'_> {}

impl<I: Isa> Work<I> for Rotate<'_> {
    #[inline(always)]
    unsafe fn run(&self, parts: Range<usize>) {
        let Heads { heads, width, .. } = self.x;
        let half = width / 2;
        for row in parts {
            let (cos, sin) = (
                &self.cos[row * half..][..half],
                &self.sin[row * half..][..half],
            );
            for head in 0..heads {
                let (a, b) = self.x.at(row, head).split_at(half);
                // SAFETY: `out` has room for all rows, and this row is this part's.
                let out = unsafe {
                    let out = self.out.add((row * heads + head) * width);
                    std::slice::from_raw_parts_mut(out.cast::<MaybeUninit<f32>>(), width)
                };
                let (first, second) = out.split_at_mut(half);
                for i in 0..half {
                    first[i].write(a[i] * cos[i] - b[i] * sin[i]);
                    second[i].write(a[i] * sin[i] + b[i] * cos[i]);
                }
            }
        }
    }
}
