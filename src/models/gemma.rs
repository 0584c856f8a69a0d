//! Gemma and Gemma 2 decoders (arXiv 2403.08295, 2408.00118) over packed rows.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};

use super::config::{Family, TextConfig};
use crate::checkpoint::adapter::{EMBED_TOKENS, LM_HEAD};
use crate::kernels::{self, Scoring};
use crate::layers::{
    AdapterId, AdapterRows, Addition, Attention, AttentionShape, Batch, GatedMlp, KvCache,
    LayerCache, Linear, Queries, RmsNorm, Weights,
};

/// The decoder: embedding, layers, logits.
#[derive(Debug)]
pub struct Gemma {
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    /// The token table, shared by the embedding and the logits.
    token_table: Linear,
    /// What gives the logits where an adapter made that another table.
    lm_head: Option<Linear>,
    /// What adapters change in the embedding.
    embedding_adapters: HashMap<AdapterId, EmbeddingAdapter>,
    /// `sqrt(hidden)`, rounded to the hidden states' dtype as the reference does.
    embedding_scale: f64,
    dtype: DType,
    final_softcap: Option<f64>,
}

/// What an adapter changes in the embedding of tokens.
#[derive(Debug)]
struct EmbeddingAdapter {
    /// `[vocab, ranks]` and `[ranks, hidden]`, whose product is added.
    low_rank: Option<(Tensor, Tensor)>,
    /// In the place of the token table, `[vocab, hidden]`.
    table: Option<Tensor>,
}

/// One layer: attention, then the gated MLP, each after a norm and added to its input.
#[derive(Debug)]
pub struct DecoderLayer {
    input_norm: RmsNorm,
    attention: Attention,
    /// Gemma 2 only.
    post_attention_norm: Option<RmsNorm>,
    /// The norm before the MLP, which Gemma 1's files call `post_attention_layernorm`.
    pre_mlp_norm: RmsNorm,
    mlp: GatedMlp,
    /// Gemma 2 only.
    post_mlp_norm: Option<RmsNorm>,
}

impl Gemma {
    /// Reads the decoder's `weights`, and of `lm_head` the weight if there is one that is not the token
    /// table.
    pub fn load(weights: &Weights<'_>, lm_head: Weights<'_>, config: &TextConfig) -> Result<Self> {
        let dtype = weights.activation_dtype();
        let table = |weights: Weights<'_>| {
            let (hidden, vocab) = (config.hidden_size, config.vocab_size);
            Linear::load(weights.for_token_table(), hidden, vocab, false)
        };
        // The largest tensor goes first, while the least memory is taken.
        let token_table = table(weights.pp("embed_tokens"))?.known_as(LM_HEAD);
        let lm_head = lm_head.has("weight").then(|| table(lm_head)).transpose()?;
        let scale = Tensor::new(
            &[(config.hidden_size as f64).sqrt() as f32],
            weights.device(),
        )?;
        Ok(Self {
            token_table,
            lm_head,
            embedding_adapters: HashMap::new(),
            layers: (0..config.layers())
                .map(|i| DecoderLayer::load(&weights.pp("layers").pp(i), config, i))
                .collect::<Result<Vec<_>>>()?,
            norm: RmsNorm::load(&weights.pp("norm"), config.hidden_size, config.rms_norm_eps)?,
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

    /// Token ids u32 `[n]` to scaled embeddings `[n, hidden]`, some of them as adapters have them.
    pub fn embed(&self, ids: &Tensor, adapters: &[AdapterRows]) -> Result<Tensor> {
        let mut x = self.token_table.rows(ids)?.to_dtype(self.dtype)?;
        for rows in adapters {
            let Some(adapter) = self.embedding_adapters.get(&rows.adapter) else {
                continue;
            };
            let ids = rows.of(ids)?;
            if let Some(table) = &adapter.table {
                x = rows.replace(&x, &table.index_select(&ids, 0)?)?;
            }
            if let Some((down, up)) = &adapter.low_rank {
                let added = down.index_select(&ids, 0)?.matmul(up)?;
                x = rows.add(&x, &added)?;
            }
        }
        x * self.embedding_scale
    }

    /// Every linear layer.
    pub fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        let of_layers = self.layers.iter_mut().flat_map(DecoderLayer::linears);
        let head = self.lm_head.as_mut().unwrap_or(&mut self.token_table);
        of_layers.chain([head])
    }

    /// Takes what an adapter changes in the embedding.
    pub fn add_adapter(&mut self, addition: &mut Addition<'_>, device: &Device) -> Result<()> {
        let Some(module) = addition.adapter.modules.get(EMBED_TOKENS) else {
            return Ok(());
        };
        let stored = |tensor: Tensor| tensor.to_dtype(self.dtype)?.to_device(device);
        let low_rank = match &module.low_rank {
            Some(low_rank) => {
                let up = (low_rank.up()?.t()? * low_rank.scale)?;
                let down = low_rank.down()?.t()?.contiguous()?;
                Some((stored(down)?, stored(up.contiguous()?)?))
            }
            None => None,
        };
        let table = module.weight()?.map(stored).transpose()?;
        let kept = [&table, &low_rank.as_ref().map(|(down, _)| down.clone())];
        let values: usize = kept.into_iter().flatten().map(Tensor::elem_count).sum();
        addition.bytes += values * self.dtype.size_in_bytes();
        addition.found(EMBED_TOKENS);
        let adapter = EmbeddingAdapter { low_rank, table };
        self.embedding_adapters.insert(addition.id, adapter);
        Ok(())
    }

    /// Lets go of what an adapter changes in the embedding.
    pub fn remove_adapter(&mut self, id: AdapterId) {
        self.embedding_adapters.remove(&id);
    }

    /// One layer over packed rows `[rows, hidden]`; writes the layer's keys and values.
    pub fn forward_layer(
        &self,
        x: &Tensor,
        layer: usize,
        batch: &Batch,
        cache: &KvCache,
    ) -> Result<Tensor> {
        self.layers[layer].forward(x, batch, cache.layer(layer))
    }

    /// The last layer over packed rows `[rows, hidden]`, of which only those of [`Queries::Last`] come
    /// out: no other's logits are wanted.
    pub fn forward_last_layer(&self, x: &Tensor, batch: &Batch, cache: &KvCache) -> Result<Tensor> {
        let layer = self.layers.len() - 1;
        self.layers[layer].forward_last(x, batch, cache.layer(layer))
    }

    /// Final hidden states `[rows, hidden]` to f32 logits `[rows, vocab]` of the first `vocab`
    /// tokens, after the final softcap.
    pub fn logits(&self, x: &Tensor, batch: &Batch, vocab: usize) -> Result<Tensor> {
        let table = self.lm_head.as_ref().unwrap_or(&self.token_table);
        let products = table.forward_normed(x, Some(&self.norm), batch)?;
        kernels::logits(&products, vocab, self.final_softcap)
    }
}

impl DecoderLayer {
    /// Reads the layer that stands at `index` in the decoder.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(weights: &Weights<'_>, config: &TextConfig, index: usize) -> Result<Self> {
        let hidden = config.hidden_size;
        let norm = |name| RmsNorm::load(&weights.pp(name), hidden, config.rms_norm_eps);
        let (post_attention_norm, pre_mlp_norm, post_mlp_norm) = match config.family {
            Family::Gemma => (None, norm("post_attention_layernorm")?, None),
            Family::Gemma2 => (
                Some(norm("post_attention_layernorm")?),
                norm("pre_feedforward_layernorm")?,
                Some(norm("post_feedforward_layernorm")?),
            ),
        };
        let shape = AttentionShape {
            hidden,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            window: config.windows[index],
            scoring: Scoring {
                scale: config.query_pre_attn_scalar.powf(-0.5),
                softcap: config.attention_softcap,
            },
        };
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            attention: Attention::load(&weights.pp("self_attn"), shape)?,
            post_attention_norm,
            pre_mlp_norm,
            mlp: GatedMlp::load(&weights.pp("mlp"), hidden, config.intermediate_size)?,
            post_mlp_norm,
        })
    }

    /// Every linear layer.
    fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        let (attention, mlp) = (&mut self.attention, &mut self.mlp);
        attention.linears().into_iter().chain(mlp.linears())
    }

    /// `[rows, hidden]` in, the same out; writes the rows' keys and values to the cache.
    ///
    /// # Errors
    /// When the device fails, or the batch has no positions.
    pub fn forward(&self, x: &Tensor, batch: &Batch, cache: &LayerCache) -> Result<Tensor> {
        let norm = Some(&self.input_norm);
        let attended = self.attention.attend(x, norm, Queries::All, batch, cache)?;
        self.finish(x, &attended, batch)
    }

    /// As [`forward`](Self::forward), but only the rows of [`Queries::Last`] come out.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_last(&self, x: &Tensor, batch: &Batch, cache: &LayerCache) -> Result<Tensor> {
        let norm = Some(&self.input_norm);
        let attended = self
            .attention
            .attend(x, norm, Queries::Last, batch, cache)?;
        let x = x.index_select(&batch.last_rows(x.device())?, 0)?;
        self.finish(&x, &attended, &batch.last(x.device())?)
    }

    /// What follows the heads' outputs `attended`; `x` is the layer's input.
    fn finish(&self, x: &Tensor, attended: &Tensor, batch: &Batch) -> Result<Tensor> {
        let x = match &self.post_attention_norm {
            Some(norm) => norm.forward_add(&self.attention.project(attended, batch)?, x)?,
            None => self.attention.project_add(attended, x, batch)?,
        };
        let pre_norm = &self.pre_mlp_norm;
        match &self.post_mlp_norm {
            Some(norm) => norm.forward_add(&self.mlp.forward(&x, Some(pre_norm), batch)?, &x),
            None => self.mlp.forward_add(&x, pre_norm, batch),
        }
    }
}
