//! A PaliGemma's dimensions, with every default already filled in.

use crate::layers::CacheShape;

/// The whole model's dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    pub vision: VisionConfig,
    pub text: TextConfig,
}

impl ModelConfig {
    /// Tokens that stand for one image.
    pub fn image_tokens(&self) -> usize {
        self.vision.patches()
    }
}

/// SigLIP's dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Side of the square picture in pixels.
    pub image_size: usize,
    /// Side of a square patch in pixels.
    pub patch_size: usize,
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub layer_norm_eps: f64,
}

impl VisionConfig {
    /// Patches of one picture; derived, because `num_positions` in published files is stale.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }
}

/// Which Gemma the decoder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// PaliGemma: two norms a layer.
    Gemma,
    /// PaliGemma 2: four norms a layer.
    Gemma2,
}

/// Gemma's dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    pub family: Family,
    /// Rows of the embedding table, padded ones included.
    pub vocab_size: usize,
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    /// Scores are divided by the square root of this; `head_dim` unless the config says otherwise.
    pub query_pre_attn_scalar: f64,
    /// Scores are squashed to `±cap` before the mask.
    pub attention_softcap: Option<f64>,
    /// Logits are squashed to `±cap`.
    pub final_softcap: Option<f64>,
    /// One entry a layer: `Some(n)` when a generated token sees the last `n` tokens only, itself
    /// included. A prefix is never cut by it.
    pub windows: Vec<Option<usize>>,
    /// The longest sequence that the model knows positions for.
    pub max_position_embeddings: usize,
}

impl TextConfig {
    pub fn layers(&self) -> usize {
        self.windows.len()
    }

    /// The window of those layers that have one.
    pub fn window(&self) -> Option<usize> {
        self.windows.iter().flatten().min().copied()
    }

    /// The shape of a KV cache for `slots` sequences of up to `context` tokens each.
    pub fn cache_shape(&self, slots: usize, context: usize) -> CacheShape {
        CacheShape {
            layers: self.layers(),
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            slots,
            context,
        }
    }
}
