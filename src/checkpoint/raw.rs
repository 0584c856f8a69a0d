//! The configuration files' fields as they stand there, each of which may be left out.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub struct RawConfig {
    pub model_type: Option<String>,
    pub text_config: Option<RawText>,
    pub vision_config: Option<RawVision>,
    pub eos_token_id: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
pub struct RawText {
    pub model_type: Option<String>,
    pub vocab_size: Option<usize>,
    pub hidden_size: Option<usize>,
    pub intermediate_size: Option<usize>,
    pub num_hidden_layers: Option<usize>,
    pub num_attention_heads: Option<usize>,
    pub num_key_value_heads: Option<usize>,
    pub head_dim: Option<usize>,
    pub hidden_act: Option<String>,
    pub hidden_activation: Option<String>,
    pub max_position_embeddings: Option<usize>,
    pub rms_norm_eps: Option<f64>,
    pub rope_theta: Option<f64>,
    pub rope_parameters: Option<RawRope>,
    pub rope_scaling: Option<RawRope>,
    pub attention_bias: Option<bool>,
    pub query_pre_attn_scalar: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    pub attn_logit_softcapping: Option<Option<f64>>,
    #[serde(default, deserialize_with = "present")]
    pub final_logit_softcapping: Option<Option<f64>>,
    #[serde(default, deserialize_with = "present")]
    pub sliding_window: Option<Option<usize>>,
    pub layer_types: Option<Vec<String>>,
    pub eos_token_id: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
pub struct RawRope {
    pub rope_type: Option<String>,
    pub rope_theta: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub struct RawVision {
    pub image_size: Option<usize>,
    pub patch_size: Option<usize>,
    pub hidden_size: Option<usize>,
    pub intermediate_size: Option<usize>,
    pub num_hidden_layers: Option<usize>,
    pub num_attention_heads: Option<usize>,
    pub hidden_act: Option<String>,
    pub layer_norm_eps: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub struct RawGeneration {
    pub eos_token_id: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl From<OneOrMany> for Vec<u32> {
    fn from(ids: OneOrMany) -> Self {
        match ids {
            OneOrMany::One(id) => vec![id],
            OneOrMany::Many(ids) => ids,
        }
    }
}

/// Tells a field that is `null` (`Some(None)`) from one that is left out (`None`).
pub fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}
