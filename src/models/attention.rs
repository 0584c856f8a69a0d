//! Attention: the only place where a sequence is looked at by itself.

use candle_core::{D, DType, Device, Result, Tensor};

/// Query rows that are scored together. Bounds the scores of a 4096-token prefix to
/// `heads · 512 · 4096` values instead of `heads · 4096²`.
const QUERY_BLOCK: usize = 512;

/// How raw scores become the softmax's input.
#[derive(Debug, Clone, Copy)]
pub struct Scoring {
    /// Multiplies `q · k`.
    pub scale: f64,
    /// Squashes scaled scores to `±softcap`, before any mask.
    pub softcap: Option<f64>,
}

impl Scoring {
    /// `softcap · tanh(scale · scores / softcap)`, or `scale · scores`; f32 out.
    fn apply(&self, scores: &Tensor) -> Result<Tensor> {
        let scores = scores.to_dtype(DType::F32)?;
        match self.softcap {
            Some(cap) => (scores * (self.scale / cap))?.tanh()? * cap,
            None => scores * self.scale,
        }
    }
}

/// Every query sees every key, unless a mask hides it: a prefix, or the patches of an image.
///
/// `q` `[n, heads, head_dim]`, `k` and `v` `[n, kv_heads, head_dim]`, `mask` f32 `[n, n]` (queries,
/// keys) with 0 where a key is seen and -∞ where not; gives `[n, heads · head_dim]`. Query heads
/// `g·i .. g·(i+1)` share key head `i`, where `g = heads / kv_heads`.
pub fn attend_all(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    scoring: Scoring,
) -> Result<Tensor> {
    let (n, heads, head_dim) = q.dims3()?;
    let kv_heads = k.dim(1)?;
    let k = k.transpose(0, 1)?.contiguous()?.transpose(1, 2)?;
    let v = v.transpose(0, 1)?.contiguous()?;
    let blocks = (0..n)
        .step_by(QUERY_BLOCK)
        .map(|start| {
            let rows = QUERY_BLOCK.min(n - start);
            let q = q
                .narrow(0, start, rows)?
                .transpose(0, 1)?
                .contiguous()?
                .reshape((kv_heads, heads / kv_heads * rows, head_dim))?;
            let mut scores = scoring.apply(&q.matmul(&k)?)?;
            if let Some(mask) = mask {
                scores = scores
                    .reshape((heads, rows, n))?
                    .broadcast_add(&mask.narrow(0, start, rows)?)?
                    .reshape((kv_heads, heads / kv_heads * rows, n))?;
            }
            candle_nn::ops::softmax_last_dim(&scores)?
                .to_dtype(v.dtype())?
                .matmul(&v)?
                .reshape((heads, rows, head_dim))?
                .transpose(0, 1)?
                .reshape((rows, heads * head_dim))
        })
        .collect::<Result<Vec<_>>>()?;
    Tensor::cat(&blocks, 0)
}

/// One query a slot over that slot's cached keys.
///
/// `q` `[slots, kv_heads, g, head_dim]`, `k` and `v` `[slots, kv_heads, t, head_dim]`, `mask` f32
/// `[slots, 1, 1, t]` with 0 where a key is seen and -∞ where not; gives the shape of `q`.
pub fn attend_cached(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: &Tensor,
    scoring: Scoring,
) -> Result<Tensor> {
    let scores = scoring
        .apply(&q.matmul(&k.transpose(D::Minus1, D::Minus2)?)?)?
        .broadcast_add(mask)?;
    candle_nn::ops::softmax_last_dim(&scores)?
        .to_dtype(v.dtype())?
        .matmul(v)
}

/// The mask of a prefix of `prefix` tokens that is followed by generated ones, `rows` in all.
///
/// The prefix sees itself whole, and nothing of what follows. A generated token sees what comes
/// before it and itself; with a `window`, only the last so many of these, prefix included, as when
/// it was decoded.
pub fn continued_prefix_mask(
    prefix: usize,
    rows: usize,
    window: Option<usize>,
    device: &Device,
) -> Result<Tensor> {
    let seen = |row: usize| match row < prefix {
        true => 0..prefix,
        false => window.map_or(0, |window| (row + 1).saturating_sub(window))..row + 1,
    };
    let values: Vec<f32> = (0..rows)
        .flat_map(|row| {
            let seen = seen(row);
            (0..rows).map(move |key| match seen.contains(&key) {
                true => 0.0,
                false => f32::NEG_INFINITY,
            })
        })
        .collect();
    Tensor::from_vec(values, (rows, rows), device)
}
