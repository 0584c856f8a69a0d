//! Gemma and Gemma 2 decoders (arXiv 2403.08295, 2408.00118) over packed rows.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::activation::gelu_gated;
use super::attention::{Scoring, attend_all, continued_prefix_mask};
use super::config::{Family, TextConfig};
use super::kv_cache::{DecodeLayout, KvCache, LayerCache};
use super::linear::{Linear, WeightFormat};
use super::norm::RmsNorm;
use super::rope::Rope;

#[derive(Debug)]
pub struct Gemma {
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    /// The token table, shared by the embedding and the logits.
    token_table: Linear,
    /// `sqrt(hidden)`, rounded to the hidden states' dtype as the reference does.
    embedding_scale: f64,
    dtype: DType,
    final_softcap: Option<f64>,
}

#[derive(Debug)]
struct DecoderLayer {
    input_norm: RmsNorm,
    /// Queries, keys and values side by side.
    qkv: Linear,
    o_proj: Linear,
    /// Gemma 2 only.
    post_attention_norm: Option<RmsNorm>,
    /// The norm before the MLP, which Gemma 1's files call `post_attention_layernorm`.
    pre_mlp_norm: RmsNorm,
    /// The gate and the up projection side by side.
    gate_up: Linear,
    down_proj: Linear,
    /// Gemma 2 only.
    post_mlp_norm: Option<RmsNorm>,
    shape: AttentionShape,
}

#[derive(Debug, Clone, Copy)]
struct AttentionShape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
    scoring: Scoring,
}

/// Consecutive packed rows that are one whole prefix, and what was generated after it.
#[derive(Debug, Clone)]
pub(super) struct PrefixRows {
    pub slot: usize,
    pub start: usize,
    pub len: usize,
    /// Only when generated tokens follow the prefix.
    pub masks: Option<ContinuedMasks>,
}

/// What hides keys of a prefix that generated tokens follow, f32 `[len, len]`.
#[derive(Debug, Clone)]
pub(super) struct ContinuedMasks {
    pub full: Tensor,
    /// For layers with a window.
    pub windowed: Tensor,
}

impl ContinuedMasks {
    /// For a prefix of `prefix` tokens among `len` rows.
    pub(super) fn new(
        prefix: usize,
        len: usize,
        config: &TextConfig,
        device: &Device,
    ) -> Result<Self> {
        let window = config.windows.iter().flatten().min().copied();
        Ok(Self {
            full: continued_prefix_mask(prefix, len, None, device)?,
            windowed: continued_prefix_mask(prefix, len, window, device)?,
        })
    }
}

/// What the packed rows of a step are: whole prefixes, then decode rows.
#[derive(Debug)]
pub(super) struct Packing<'a> {
    pub prefixes: &'a [PrefixRows],
    pub decode: Option<&'a DecodeLayout>,
    /// The angles of every row.
    pub rope: &'a Rope,
}

impl Gemma {
    pub fn load(vb: &VarBuilder, config: &TextConfig, format: WeightFormat) -> Result<Self> {
        let dtype = format.activation_dtype();
        // The largest tensor goes first, while the least memory is taken.
        let token_table = Linear::load(
            &vb.pp("embed_tokens"),
            config.hidden_size,
            config.vocab_size,
            false,
            format.for_token_table(),
        )?;
        let scale = Tensor::new(&[(config.hidden_size as f64).sqrt() as f32], vb.device())?;
        Ok(Self {
            token_table,
            layers: (0..config.layers())
                .map(|i| DecoderLayer::load(&vb.pp("layers").pp(i), config, i, format))
                .collect::<Result<Vec<_>>>()?,
            norm: RmsNorm::load(&vb.pp("norm"), config.hidden_size, config.rms_norm_eps)?,
            embedding_scale: f64::from(
                scale
                    .to_dtype(dtype)?
                    .to_dtype(DType::F32)?
                    .to_vec1::<f32>()?[0],
            ),
            dtype,
            final_softcap: config.final_softcap,
        })
    }

    /// Token ids u32 `[n]` to scaled embeddings `[n, hidden]`.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        self.token_table.rows(ids)?.to_dtype(self.dtype)? * self.embedding_scale
    }

    /// One layer over packed rows `[rows, hidden]`; writes the layer's keys and values.
    pub(super) fn forward_layer(
        &self,
        x: &Tensor,
        layer: usize,
        packing: &Packing<'_>,
        cache: &KvCache,
    ) -> Result<Tensor> {
        self.layers[layer].forward(x, packing, cache.layer(layer))
    }

    /// Final hidden states `[rows, hidden]` to f32 logits `[rows, vocab]` of the first `vocab`
    /// tokens, after the final softcap.
    pub fn logits(&self, x: &Tensor, vocab: usize) -> Result<Tensor> {
        let logits = self
            .token_table
            .forward(&self.norm.forward(x)?)?
            .narrow(1, 0, vocab)?
            .to_dtype(DType::F32)?
            .contiguous()?;
        match self.final_softcap {
            Some(cap) => (logits / cap)?.tanh()? * cap,
            None => Ok(logits),
        }
    }
}

impl DecoderLayer {
    fn load(
        vb: &VarBuilder,
        config: &TextConfig,
        index: usize,
        format: WeightFormat,
    ) -> Result<Self> {
        let (hidden, mlp_width) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        let norm = |name| RmsNorm::load(&vb.pp(name), hidden, config.rms_norm_eps);
        let (attention, mlp) = (vb.pp("self_attn"), vb.pp("mlp"));
        let (post_attention_norm, pre_mlp_norm, post_mlp_norm) = match config.family {
            Family::Gemma => (None, norm("post_attention_layernorm")?, None),
            Family::Gemma2 => (
                Some(norm("post_attention_layernorm")?),
                norm("pre_feedforward_layernorm")?,
                Some(norm("post_feedforward_layernorm")?),
            ),
        };
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            qkv: Linear::load_fused(
                &[
                    (attention.pp("q_proj"), q),
                    (attention.pp("k_proj"), kv),
                    (attention.pp("v_proj"), kv),
                ],
                hidden,
                false,
                format,
            )?,
            o_proj: Linear::load(&attention.pp("o_proj"), q, hidden, false, format)?,
            post_attention_norm,
            pre_mlp_norm,
            gate_up: Linear::load_fused(
                &[
                    (mlp.pp("gate_proj"), mlp_width),
                    (mlp.pp("up_proj"), mlp_width),
                ],
                hidden,
                false,
                format,
            )?,
            down_proj: Linear::load(&mlp.pp("down_proj"), mlp_width, hidden, false, format)?,
            post_mlp_norm,
            shape: AttentionShape {
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_dim: config.head_dim,
                window: config.windows[index],
                scoring: Scoring {
                    scale: config.query_pre_attn_scalar.powf(-0.5),
                    softcap: config.attention_softcap,
                },
            },
        })
    }

    fn forward(&self, x: &Tensor, packing: &Packing<'_>, cache: &LayerCache) -> Result<Tensor> {
        let attended = self.attend(&self.input_norm.forward(x)?, packing, cache)?;
        let x = (x + normed(&self.post_attention_norm, attended)?)?;
        let transformed = self.mlp(&self.pre_mlp_norm.forward(&x)?)?;
        x + normed(&self.post_mlp_norm, transformed)?
    }

    fn attend(&self, x: &Tensor, packing: &Packing<'_>, cache: &LayerCache) -> Result<Tensor> {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
            window,
            scoring,
        } = self.shape;
        let rows = x.dim(0)?;
        let qkv = self.qkv.forward(x)?;
        let part = |first: usize, count: usize| {
            qkv.narrow(1, first * head_dim, count * head_dim)?
                .reshape((rows, count, head_dim))
        };
        let q = packing.rope.rotate(&part(0, heads)?)?;
        let k = packing.rope.rotate(&part(heads, kv_heads)?)?;
        let v = part(heads + kv_heads, kv_heads)?;

        let mut outputs = Vec::with_capacity(packing.prefixes.len() + 1);
        for prefix in packing.prefixes {
            let rows = |x: &Tensor| x.narrow(0, prefix.start, prefix.len);
            let (q, k, v) = (rows(&q)?, rows(&k)?, rows(&v)?);
            cache.write_prefix(prefix.slot, &k, &v)?;
            let mask = prefix.masks.as_ref().map(|masks| match window {
                Some(_) => &masks.windowed,
                None => &masks.full,
            });
            outputs.push(attend_all(&q, &k, &v, mask, scoring)?);
        }
        if let Some(decode) = packing.decode {
            let start: usize = packing.prefixes.iter().map(|prefix| prefix.len).sum();
            let [q, k, v] = [&q, &k, &v].map(|x| x.narrow(0, start, rows - start));
            outputs.push(decode.attend(cache, &q?, &k?, &v?, window, scoring)?);
        }
        self.o_proj.forward(&Tensor::cat(&outputs, 0)?)
    }

    fn mlp(&self, x: &Tensor) -> Result<Tensor> {
        self.down_proj
            .forward(&gelu_gated(&self.gate_up.forward(x)?)?)
    }
}

fn normed(norm: &Option<RmsNorm>, x: Tensor) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(&x),
        None => Ok(x),
    }
}
