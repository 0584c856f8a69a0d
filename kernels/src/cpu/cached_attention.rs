//! Attention of one query a sequence over the KV cache.

use std::ops::Range;

use super::heads::Heads;
use super::instructions::{Instructions, dispatch};
use super::isa::{COLUMNS, Isa, Work};
use super::lanes::fold;
use super::parallel::in_parallel;
use super::softmax::softmax;
use super::tile::{FloatTile, Sums, run_floats};
use crate::Scoring;

/// Heads of a sequence that share the reading of a key.
const SHARING: usize = 4;

/// One query for each slot, over the keys of that slot that it sees.
///
/// `q` `[slots, heads, width]`; `k` and `v` hold each slot's keys as `[slots · kv_heads, keys,
/// width]`, rows and heads meaning slots · kv_heads and keys. Gives `[slots, heads · width]`.
///
/// # Panics
/// When the sizes don't fit together, or the processor lacks the instructions.
pub fn attend_cached(
    instructions: Instructions,
    q: Heads<'_>,
    k: Heads<'_>,
    v: Heads<'_>,
    seen: &[Range<usize>],
    scoring: Scoring,
) -> Vec<f32> {
    [q, k, v].iter().for_each(Heads::check);
    assert_eq!((k.rows, k.heads, k.width), (v.rows, v.heads, v.width));
    assert_eq!((q.rows, q.width), (seen.len(), k.width));
    let kv_heads = k.rows / q.rows;
    assert_eq!((kv_heads * q.rows, q.heads % kv_heads), (k.rows, 0));
    assert!(
        seen.iter()
            .all(|seen| seen.start < seen.end && seen.end <= k.heads)
    );
    dispatch!(instructions, I => {
        let mut out = Vec::with_capacity(q.rows * q.heads * q.width);
        let work = AttendCached {
            q,
            k,
            v,
            seen,
            kv_heads,
            scoring,
            out: out.as_mut_ptr(),
        };
        let keys: usize = seen.iter().map(Range::len).sum();
        let parts = q.rows * kv_heads * work.shares();
        in_parallel::<I, _>(&work, parts, 2 * keys * q.heads * q.width);
        // SAFETY: the parts wrote every head of every row.
        unsafe { out.set_len(q.rows * q.heads * q.width) }
        out
    })
}

/// Attention over the cache; a part is up to [`SHARING`] heads of a slot that share their keys.
struct AttendCached<'a> {
    q: Heads<'a>,
    k: Heads<'a>,
    v: Heads<'a>,
    seen: &'a [Range<usize>],
    kv_heads: usize,
    scoring: Scoring,
    /// With room for all rows.
    out: *mut f32,
}

// SAFETY: threads write to heads of their own.
unsafe impl Sync for AttendCached<'_> {}

impl AttendCached<'_> {
    /// Query heads of each key head.
    fn group(&self) -> usize {
        self.q.heads / self.kv_heads
    }

    /// Parts of each key head.
    fn shares(&self) -> usize {
        self.group().div_ceil(SHARING)
    }
}

impl<I: Isa> Work<I> for AttendCached<'_> {
    #[inline(always)]
    unsafe fn run(&self, parts: Range<usize>) {
        let width = self.q.width;
        let mut scores: [Vec<f32>; SHARING] = Default::default();
        for part in parts {
            let (row, share) = (part / self.shares(), part % self.shares());
            let (slot, kv_head) = (row / self.kv_heads, row % self.kv_heads);
            let first = share * SHARING;
            let count = SHARING.min(self.group() - first);
            let first = kv_head * self.group() + first;
            let seen = self.seen[slot].clone();
            for scores in scores.iter_mut().take(count) {
                scores.clear();
            }
            for key in seen.clone() {
                let key = self.k.at(row, key);
                for (head, scores) in scores.iter_mut().take(count).enumerate() {
                    // SAFETY: the processor has the instructions.
                    scores.push(unsafe { dot::<I>(self.q.at(slot, first + head), key) });
                }
            }
            for (head, scores) in scores.iter_mut().take(count).enumerate() {
                softmax(scores, None, self.scoring);
                // SAFETY: `out` has room for all heads of all rows, and this head is this part's.
                unsafe {
                    let out = self.out.add((slot * self.q.heads + first + head) * width);
                    weigh::<I>(scores, self.v, row, seen.start, out);
                }
            }
        }
    }
}

/// `Σ a · b`.
#[inline(always)]
unsafe fn dot<I: Isa>(a: &[f32], b: &[f32]) -> f32 {
    let (a, rest_a) = a.as_chunks::<COLUMNS>();
    let (b, rest_b) = b.as_chunks::<COLUMNS>();
    let mut lanes = [0.0; COLUMNS];
    // SAFETY: the caller's processor; the chunks have 16 values each.
    unsafe {
        // Two sums, so that one need not wait for the other.
        let mut sums = [I::splat(0.0); 2];
        let ((a, last_a), (b, last_b)) = (a.as_chunks::<2>(), b.as_chunks::<2>());
        for (a, b) in a.iter().zip(b) {
            for i in 0..2 {
                sums[i] = I::mul_add(I::load(a[i].as_ptr()), I::load(b[i].as_ptr()), sums[i]);
            }
        }
        for (a, b) in last_a.iter().zip(last_b) {
            sums[0] = I::mul_add(I::load(a.as_ptr()), I::load(b.as_ptr()), sums[0]);
        }
        I::store(
            lanes.as_mut_ptr(),
            I::mul_add(sums[0], I::splat(1.0), sums[1]),
        );
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    let add = |a, b| a + b;
    fold(&lanes, 0.0, add, add) + rest
}

/// Writes `Σ weight · value` over the values of `row` from `first` on.
#[inline(always)]
unsafe fn weigh<I: Isa>(weights: &[f32], v: Heads<'_>, row: usize, first: usize, out: *mut f32) {
    let whole = v.width / COLUMNS;
    let values = &v.values[row * v.row_stride + first * v.head_stride..];
    for panel in (0..whole).step_by(I::PANELS) {
        // SAFETY: so many values are there, and `out` has room for a head.
        unsafe {
            let tile = FloatTile {
                weights: values.as_ptr().add(panel * COLUMNS),
                panel_stride: COLUMNS,
                depth_stride: v.head_stride,
                depth: weights.len(),
                activations: weights.as_ptr(),
                stride: 0,
                sums: Sums {
                    at: out.add(panel * COLUMNS),
                    stride: 0,
                    first: true,
                },
            };
            run_floats::<I>(&tile, 1, I::PANELS.min(whole - panel));
        }
    }
    for i in whole * COLUMNS..v.width {
        let products = weights
            .iter()
            .enumerate()
            .map(|(key, weight)| weight * values[key * v.head_stride + i]);
        // SAFETY: `out` has room for a head.
        unsafe { out.add(i).write(products.sum()) }
    }
}
