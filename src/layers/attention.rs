//! Attention: the only place where a sequence is looked at by itself.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::VarBuilder;

use super::kv_cache::LayerCache;
use super::{Batch, Linear};
use crate::kernels::WeightFormat;

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

/// Gemma's attention: grouped heads with rotary positions, over prefixes and over the KV cache.
#[derive(Debug)]
pub struct Attention {
    /// Queries, keys and values side by side.
    qkv: Linear,
    o_proj: Linear,
    shape: AttentionShape,
}

/// The dimensions of an [`Attention`].
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape {
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// A generated token sees the last so many tokens only, itself included. A prefix is never cut
    /// by it.
    pub window: Option<usize>,
    pub scoring: Scoring,
}

impl Attention {
    /// Reads `q_proj`, `k_proj`, `v_proj` and `o_proj`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(vb: &VarBuilder, shape: AttentionShape, format: WeightFormat) -> Result<Self> {
        let (q, kv) = (
            shape.heads * shape.head_dim,
            shape.kv_heads * shape.head_dim,
        );
        let parts = [("q_proj", q), ("k_proj", kv), ("v_proj", kv)];
        let parts = parts.map(|(name, width)| (vb.pp(name), width));
        Ok(Self {
            qkv: Linear::load_fused(&parts, shape.hidden, false, format)?,
            o_proj: Linear::load(&vb.pp("o_proj"), q, shape.hidden, false, format)?,
            shape,
        })
    }

    /// `[rows, hidden]` in, the same out; writes the rows' keys and values to the cache.
    ///
    /// # Errors
    /// When the device fails, or the batch has no positions.
    pub fn forward(&self, x: &Tensor, batch: &Batch, cache: &LayerCache) -> Result<Tensor> {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
            window,
            scoring,
            ..
        } = self.shape;
        let Some(rope) = &batch.rope else {
            candle_core::bail!("attention over a text needs the positions of its rows");
        };
        let rows = batch.rows();
        let qkv = self.qkv.forward(x, batch)?;
        let part = |first: usize, count: usize| {
            qkv.narrow(1, first * head_dim, count * head_dim)?
                .reshape((rows, count, head_dim))
        };
        let q = rope.rotate(&part(0, heads)?)?;
        let k = rope.rotate(&part(heads, kv_heads)?)?;
        let v = part(heads + kv_heads, kv_heads)?;

        let mut outputs = Vec::with_capacity(batch.prefixes.len() + 1);
        for prefix in &batch.prefixes {
            let rows = |x: &Tensor| x.narrow(0, prefix.start, prefix.len);
            let (q, k, v) = (rows(&q)?, rows(&k)?, rows(&v)?);
            cache.write_prefix(prefix.slot, &k, &v)?;
            let mask = prefix.masks.as_ref().map(|masks| masks.of(window));
            outputs.push(attend_all(&q, &k, &v, mask, scoring)?);
        }
        if let Some(decode) = &batch.decode {
            let start = rows - decode.rows();
            let rows = |x: &Tensor| x.narrow(0, start, decode.rows());
            let (q, k, v) = (rows(&q)?, rows(&k)?, rows(&v)?);
            outputs.push(decode.attend(cache, &q, &k, &v, window, scoring)?);
        }
        self.o_proj.forward(&Tensor::cat(&outputs, 0)?, batch)
    }
}

/// SigLIP's attention: every patch of an image sees every other, and no image sees another.
#[derive(Debug)]
pub struct ImageAttention {
    /// Queries, keys and values side by side.
    qkv: Linear,
    out_proj: Linear,
    heads: usize,
}

impl ImageAttention {
    /// Reads `q_proj`, `k_proj`, `v_proj` and `out_proj`, with their biases.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(
        vb: &VarBuilder,
        hidden: usize,
        heads: usize,
        format: WeightFormat,
    ) -> Result<Self> {
        let parts = ["q_proj", "k_proj", "v_proj"].map(|name| (vb.pp(name), hidden));
        Ok(Self {
            qkv: Linear::load_fused(&parts, hidden, true, format)?,
            out_proj: Linear::load(&vb.pp("out_proj"), hidden, hidden, true, format)?,
            heads,
        })
    }

    /// `[images · patches, hidden]` in, the same out.
    ///
    /// # Errors
    /// When the device fails, or the batch is not one of images.
    pub fn forward(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        let Some(patches) = batch.rows_per_image else {
            candle_core::bail!("attention over images needs a batch of images");
        };
        let hidden = x.dim(1)?;
        let head_dim = hidden / self.heads;
        let scoring = Scoring {
            scale: (head_dim as f64).powf(-0.5),
            softcap: None,
        };
        let qkv = self.qkv.forward(x, batch)?;
        let images = (0..batch.rows() / patches)
            .map(|image| {
                let part = |i: usize| {
                    qkv.narrow(0, image * patches, patches)?
                        .narrow(1, i * hidden, hidden)?
                        .reshape((patches, self.heads, head_dim))
                };
                attend_all(&part(0)?, &part(1)?, &part(2)?, None, scoring)
            })
            .collect::<Result<Vec<_>>>()?;
        self.out_proj.forward(&Tensor::cat(&images, 0)?, batch)
    }
}
