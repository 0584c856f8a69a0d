//! Kernels in candle's own operations, for every device.

use candle_core::{D, DType, Result, Tensor};

use super::Scoring;

/// Query rows that are scored together. Bounds the scores of a 4096-token prefix to
/// `heads · 512 · 4096` values instead of `heads · 4096²`.
const QUERY_BLOCK: usize = 512;

/// GELU of each value, in the tanh approximation; any shape and dtype.
pub(super) fn gelu(x: &Tensor) -> Result<Tensor> {
    rounded_once(x)?.gelu()?.to_dtype(x.dtype())
}

/// `gelu(gate) · up` for `[rows, 2 · width]` with the gate left and the up projection right; gives
/// `[rows, width]`.
pub(super) fn gelu_gated(gate_up: &Tensor) -> Result<Tensor> {
    let width = gate_up.dim(1)? / 2;
    let gate = rounded_once(&gate_up.narrow(1, 0, width)?)?.gelu()?;
    gate.to_dtype(gate_up.dtype())? * gate_up.narrow(1, width, width)?
}

/// candle's kernel rounds after every operation; the reference computes in f32 and rounds once.
fn rounded_once(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.to_dtype(DType::F32)
}

/// See [`attend_all`](super::attend_all).
pub(super) fn attend_all(
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
            let mut scores = scored(&q.matmul(&k)?, scoring)?;
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

/// See [`attend_cached`](super::attend_cached); `mask` f32 `[slots, 1, 1, keys]` with 0 where a key
/// is seen and -∞ where not; gives the shape of `q`.
pub(super) fn attend_cached(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: &Tensor,
    scoring: Scoring,
) -> Result<Tensor> {
    let scores = scored(&q.matmul(&k.transpose(D::Minus1, D::Minus2)?)?, scoring)?;
    candle_nn::ops::softmax_last_dim(&scores.broadcast_add(mask)?)?
        .to_dtype(v.dtype())?
        .matmul(v)
}

/// `softcap · tanh(scale · scores / softcap)`, or `scale · scores`; f32 out.
fn scored(scores: &Tensor, scoring: Scoring) -> Result<Tensor> {
    let scores = scores.to_dtype(DType::F32)?;
    match scoring.softcap {
        Some(cap) => (scores * (scoring.scale / cap))?.tanh()? * cap,
        None => scores * scoring.scale,
    }
}

/// See [`rotate`](super::rotate).
pub(super) fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?.unsqueeze(0)?;
    candle_nn::rotary_emb::rope_thd(&x, cos, sin)?.squeeze(0)
}
