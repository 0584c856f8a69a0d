//! Attention of all rows to all rows, a head and a few queries at a time.

use std::ops::Range;

use rayon::prelude::*;

use super::heads::Heads;
use super::instructions::{Instructions, dispatch};
use super::isa::{COLUMNS, Isa, Work};
use super::parallel::in_parallel;
use super::softmax::softmax;
use super::tile::{FloatTile, Sums, run_floats};
use crate::Scoring;

/// Queries of a head that are scored together.
const QUERIES: usize = 24;
/// Products that are summed up before the next panel: what of a panel stays in the cache.
const DEPTH: usize = 256;

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
