//! Attention in f32, a head and a few queries at a time.

use std::ops::Range;

use rayon::prelude::*;

use super::gelu::exp;
use super::instructions::{Instructions, dispatch};
use super::isa::{COLUMNS, Isa, Work};
use super::lanes::fold;
use super::parallel::in_parallel;
use super::tile::{FloatTile, Sums, run_floats};
use crate::kernels::Scoring;

/// Queries of a head that are scored together.
const QUERIES: usize = 24;
/// Products that are summed up before the next panel: what of a panel stays in the cache.
const DEPTH: usize = 256;
/// Heads of a cached sequence that share the reading of a key.
const SHARING: usize = 4;

/// Rows of heads, `[rows, heads, width]`, whose values lie side by side within a head.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    /// From the first head of the first row to the end of the last.
    pub values: &'a [f32],
    pub rows: usize,
    pub heads: usize,
    pub width: usize,
    /// From a row to the next, in values.
    pub row_stride: usize,
    /// From a head to the next, in values.
    pub head_stride: usize,
}

impl<'a> Heads<'a> {
    fn at(&self, row: usize, head: usize) -> &'a [f32] {
        &self.values[row * self.row_stride + head * self.head_stride..][..self.width]
    }

    /// # Panics
    /// When the values end before the last row does.
    fn check(&self) {
        if self.rows > 0 && self.heads > 0 {
            self.at(self.rows - 1, self.heads - 1);
        }
    }
}

/// Every query sees every key that `mask` `[queries, keys]` doesn't hide; `k` and `v` have the same
/// rows and heads. Gives `[queries, heads · width]`.
///
/// # Panics
/// When the sizes don't fit together, or the processor lacks the instructions.
pub fn attend_all(
    instructions: Instructions,
    q: Heads<'_>,
    k: Heads<'_>,
    v: Heads<'_>,
    mask: Option<&[f32]>,
    scoring: Scoring,
) -> Vec<f32> {
    [q, k, v].iter().for_each(Heads::check);
    assert_eq!((k.rows, k.heads, k.width), (v.rows, v.heads, v.width));
    assert_eq!((q.heads % k.heads, q.width), (0, k.width));
    assert!(k.rows > 0, "no keys");
    assert!(mask.is_none_or(|mask| mask.len() == q.rows * k.rows));
    dispatch!(instructions, I => {
        let (keys, values) = (key_panels(k), value_panels(v));
        let mut out = Vec::with_capacity(q.rows * q.heads * q.width);
        let work = AttendAll {
            q,
            keys: &keys,
            values: &values,
            key_count: k.rows,
            kv_heads: k.heads,
            mask,
            scoring,
            out: out.as_mut_ptr(),
        };
        let parts = q.heads * q.rows.div_ceil(QUERIES);
        in_parallel::<I, _>(&work, parts, 2 * q.rows * q.heads * q.width * k.rows);
        // SAFETY: the parts wrote every head of every row.
        unsafe { out.set_len(q.rows * q.heads * q.width) }
        out
    })
}

/// Keys in panels of 16: `[heads][keys / 16][width][16]`, absent keys 0.
fn key_panels(k: Heads<'_>) -> Vec<f32> {
    let panels = k.rows.div_ceil(COLUMNS);
    let mut packed = vec![0.0; k.heads * panels * k.width * COLUMNS];
    let heads = packed.par_chunks_mut(panels * k.width * COLUMNS);
    heads.enumerate().for_each(|(head, packed)| {
        for row in 0..k.rows {
            let at = row / COLUMNS * k.width * COLUMNS + row % COLUMNS;
            let to = packed[at..].iter_mut().step_by(COLUMNS);
            for (to, &value) in to.zip(k.at(row, head)) {
                *to = value;
            }
        }
    });
    packed
}

/// Values in panels of 16: `[heads][width / 16][rows][16]`, absent ones 0.
fn value_panels(v: Heads<'_>) -> Vec<f32> {
    let panels = v.width.div_ceil(COLUMNS);
    let mut packed = vec![0.0; v.heads * panels * v.rows * COLUMNS];
    let heads = packed.par_chunks_mut(panels * v.rows * COLUMNS);
    heads.enumerate().for_each(|(head, packed)| {
        for row in 0..v.rows {
            for (panel, values) in v.at(row, head).chunks(COLUMNS).enumerate() {
                let at = (panel * v.rows + row) * COLUMNS;
                packed[at..at + values.len()].copy_from_slice(values);
            }
        }
    });
    packed
}

/// Attention whose parts are some queries of a head each.
struct AttendAll<'a> {
    q: Heads<'a>,
    keys: &'a [f32],
    values: &'a [f32],
    key_count: usize,
    kv_heads: usize,
    mask: Option<&'a [f32]>,
    scoring: Scoring,
    /// With room for all rows.
    out: *mut f32,
}

// SAFETY: threads write to queries and heads of their own.
unsafe impl Sync for AttendAll<'_> {}

impl<I: Isa> Work<I> for AttendAll<'_> {
    #[inline(always)]
    unsafe fn run(&self, parts: Range<usize>) {
        let Heads {
            rows, heads, width, ..
        } = self.q;
        let key_panels = self.key_count.div_ceil(COLUMNS);
        let value_panels = width.div_ceil(COLUMNS);
        let mut scores = vec![0.0; QUERIES * key_panels * COLUMNS];
        let mut sums = vec![0.0; QUERIES * value_panels * COLUMNS];
        let blocks = rows.div_ceil(QUERIES);
        for part in parts {
            let (head, start) = (part / blocks, part % blocks * QUERIES);
            let count = QUERIES.min(rows - start);
            let kv_head = head / (heads / self.kv_heads);
            let key_values = key_panels * width * COLUMNS;
            let keys = &self.keys[kv_head * key_values..][..key_values];
            let value_values = value_panels * self.key_count * COLUMNS;
            let values = &self.values[kv_head * value_values..][..value_values];
            let queries = &self.q.values[start * self.q.row_stride + head * self.q.head_stride..];
            // SAFETY: the queries' values, the panels' and the sums' are as many as these say.
            unsafe {
                multiply::<I>(queries, self.q.row_stride, keys, width, count, &mut scores);
                for (row, scores) in scores
                    .chunks_mut(key_panels * COLUMNS)
                    .take(count)
                    .enumerate()
                {
                    let mask = self
                        .mask
                        .map(|mask| &mask[(start + row) * self.key_count..][..self.key_count]);
                    softmax(&mut scores[..self.key_count], mask, self.scoring);
                }
                let stride = key_panels * COLUMNS;
                multiply::<I>(&scores, stride, values, self.key_count, count, &mut sums);
                for (row, sums) in sums.chunks(value_panels * COLUMNS).take(count).enumerate() {
                    let to = self.out.add(((start + row) * heads + head) * width);
                    to.copy_from_nonoverlapping(sums.as_ptr(), width);
                }
            }
        }
    }
}

/// `rows` rows, `stride` values apart, times panels of `depth` times 16 values; `sums` takes
/// `[rows][panels · 16]`.
#[inline(always)]
unsafe fn multiply<I: Isa>(
    x: &[f32],
    stride: usize,
    panels: &[f32],
    depth: usize,
    rows: usize,
    sums: &mut [f32],
) {
    let count = panels.len() / (depth * COLUMNS);
    for panel in (0..count).step_by(I::PANELS) {
        for start in (0..depth).step_by(DEPTH) {
            for row in (0..rows).step_by(I::FLOAT_ROWS) {
                // SAFETY: the caller's sizes.
                unsafe {
                    let tile = FloatTile {
                        weights: panels.as_ptr().add((panel * depth + start) * COLUMNS),
                        panel_stride: depth * COLUMNS,
                        depth_stride: COLUMNS,
                        depth: DEPTH.min(depth - start),
                        activations: x.as_ptr().add(row * stride + start),
                        stride,
                        sums: Sums {
                            at: sums.as_mut_ptr().add((row * count + panel) * COLUMNS),
                            stride: count * COLUMNS,
                            first: start == 0,
                        },
                    };
                    run_floats::<I>(
                        &tile,
                        I::FLOAT_ROWS.min(rows - row),
                        I::PANELS.min(count - panel),
                    );
                }
            }
        }
    }
}

/// Raw scores to weights that add up to 1; -∞ in `mask` hides a key.
#[inline(always)]
fn softmax(scores: &mut [f32], mask: Option<&[f32]>, scoring: Scoring) {
    // As the reference does it, which computes in f32.
    match scoring.softcap {
        Some(cap) => {
            let (scale, cap) = ((scoring.scale / cap) as f32, cap as f32);
            for score in scores.iter_mut() {
                *score = cap * tanh(*score * scale);
            }
        }
        None => {
            let scale = scoring.scale as f32;
            for score in scores.iter_mut() {
                *score *= scale;
            }
        }
    }
    if let Some(mask) = mask {
        for (score, mask) in scores.iter_mut().zip(mask) {
            *score += mask;
        }
    }
    let larger = |a, b| if b > a { b } else { a };
    let largest = fold(scores, f32::NEG_INFINITY, larger, larger);
    for score in scores.iter_mut() {
        let x = *score - largest;
        // A key that is hidden counts for nothing.
        *score = if x < -87.0 { 0.0 } else { exp(x) };
    }
    let add = |a, b| a + b;
    let factor = 1.0 / fold(scores, 0.0, add, add);
    for score in scores.iter_mut() {
        *score *= factor;
    }
}

/// `tanh x` within 2e-7.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}

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
                    std::slice::from_raw_parts_mut(out.cast::<std::mem::MaybeUninit<f32>>(), width)
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
