//! Attention: the only place where a sequence is looked at by itself.

use candle_core::{Result, Tensor};

use super::kv_cache::{DecodeLayout, LayerCache};
use super::{Batch, Linear, PrefixRows, RmsNorm, Weights};
use crate::kernels::{
    CachedPrefix, CachedRows, Outputs, Scoring, attend_all, attend_images, attend_rows,
};

/// Gemma's attention: grouped heads with rotary positions, over prefixes and over the KV cache.
#[derive(Debug)]
pub struct Attention {
    /// Queries, keys and values side by side.
    qkv: Linear,
    o_proj: Linear,
    shape: AttentionShape,
}

/// The rows whose output is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queries {
    All,
    /// Of each prefix the last, and all rows that decode.
    Last,
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
    pub fn load(weights: &Weights<'_>, shape: AttentionShape) -> Result<Self> {
        let (q, kv) = (
            shape.heads * shape.head_dim,
            shape.kv_heads * shape.head_dim,
        );
        let parts = [("q_proj", q), ("k_proj", kv), ("v_proj", kv)];
        let parts = parts.map(|(name, width)| (weights.pp(name), width));
        Ok(Self {
            qkv: Linear::load_fused(&parts, shape.hidden, false, Outputs::SideBySide)?,
            o_proj: Linear::load(weights.pp("o_proj"), q, shape.hidden, false)?,
            shape,
        })
    }

    /// Its linear layers.
    pub fn linears(&mut self) -> [&mut Linear; 2] {
        [&mut self.qkv, &mut self.o_proj]
    }

    /// `[rows, hidden]` in, the same out; writes the rows' keys and values to the cache.
    ///
    /// # Errors
    /// When the device fails, or the batch has no positions.
    pub fn forward(&self, x: &Tensor, batch: &Batch, cache: &LayerCache) -> Result<Tensor> {
        self.project(&self.attend(x, None, Queries::All, batch, cache)?, batch)
    }

    /// What the heads give of rows after `norm`, if there is one, `[rows, hidden]` to `[queries, heads · head_dim]`; writes the rows' keys
    /// and values to the cache.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn attend(
        &self,
        x: &Tensor,
        norm: Option<&RmsNorm>,
        queries: Queries,
        batch: &Batch,
        cache: &LayerCache,
    ) -> Result<Tensor> {
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
        let qkv = self.qkv.forward_normed(x, norm, batch)?;
        if let Some(places) = &batch.places {
            let prefix = |prefix| cached_prefix(prefix, window);
            let rows = CachedRows {
                places,
                prefixes: batch.prefixes.iter().map(prefix).collect(),
                decode: batch.decode.as_ref().map_or(0, DecodeLayout::rows),
                last_only: queries == Queries::Last,
                window,
            };
            return attend_rows(&qkv, rope.angles(), (&cache.k, &cache.v), &rows, scoring);
        }
        let rows = batch.rows();
        let qkv = qkv.reshape((rows, heads + 2 * kv_heads, head_dim))?;
        let q = rope.rotate(&qkv.narrow(1, 0, heads)?)?;
        let k = rope.rotate(&qkv.narrow(1, heads, kv_heads)?)?;
        let v = qkv.narrow(1, heads + kv_heads, kv_heads)?;

        let mut outputs = Vec::with_capacity(batch.prefixes.len() + 1);
        for prefix in &batch.prefixes {
            let rows = |x: &Tensor| x.narrow(0, prefix.start, prefix.len);
            let (q, k, v) = (rows(&q)?, rows(&k)?, rows(&v)?);
            cache.write_prefix(prefix.slot, &k, &v)?;
            let mask = prefix.masks.as_ref().map(|masks| masks.of(window));
            let (q, mask) = match queries {
                Queries::All => (q, mask.cloned()),
                Queries::Last => {
                    let last = |x: &Tensor| x.narrow(0, prefix.len - 1, 1);
                    (last(&q)?, mask.map(last).transpose()?)
                }
            };
            outputs.push(attend_all(&q, &k, &v, mask.as_ref(), scoring)?);
        }
        if let Some(decode) = &batch.decode
            && let Some(slots) = decode.slot_order()
        {
            let start = rows - decode.rows();
            let rows = |x: &Tensor| x.narrow(0, start, decode.rows());
            let (q, k, v) = (rows(&q)?, rows(&k)?, rows(&v)?);
            outputs.push(slots.attend(cache, &q, &k, &v, window, scoring)?);
        }
        Tensor::cat(&outputs, 0)
    }

    /// The heads' outputs put together, `[rows, heads · head_dim]` to `[rows, hidden]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn project(&self, attended: &Tensor, batch: &Batch) -> Result<Tensor> {
        self.o_proj.forward(attended, batch)
    }

    /// `residual` `[rows, hidden]` plus [`project`](Self::project).
    ///
    /// # Errors
    /// When the device fails.
    pub fn project_add(
        &self,
        attended: &Tensor,
        residual: &Tensor,
        batch: &Batch,
    ) -> Result<Tensor> {
        self.o_proj.forward_add(attended, residual, batch)
    }
}

fn cached_prefix(prefix: &PrefixRows, window: Option<usize>) -> CachedPrefix<'_> {
    CachedPrefix {
        len: prefix.len,
        mask: prefix.masks.as_ref().map(|masks| masks.of(window)),
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
    pub fn load(weights: &Weights<'_>, hidden: usize, heads: usize) -> Result<Self> {
        let parts = ["q_proj", "k_proj", "v_proj"].map(|name| (weights.pp(name), hidden));
        Ok(Self {
            qkv: Linear::load_fused(&parts, hidden, true, Outputs::SideBySide)?,
            out_proj: Linear::load(weights.pp("out_proj"), hidden, hidden, true)?,
            heads,
        })
    }

    /// Its linear layers.
    pub fn linears(&mut self) -> [&mut Linear; 2] {
        [&mut self.qkv, &mut self.out_proj]
    }

    /// `[images · patches, hidden]` in, the same out, with `residual` added to it.
    ///
    /// # Errors
    /// When the device fails, or the batch is not one of images.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor, batch: &Batch) -> Result<Tensor> {
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
        let attended = attend_images(&qkv, patches, self.heads, scoring)?;
        self.out_proj.forward_add(&attended, residual, batch)
    }
}
