//! `config.json` and `generation_config.json`, with the defaults that published files rely on.
//!
//! A field that is left out has the value of the reference's configuration class
//! (`GemmaConfig`, `Gemma2Config`, `SiglipVisionConfig` of transformers).

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::CheckpointError;
use crate::model::ModelConfig;
use crate::model::config::{Family, TextConfig, VisionConfig};

/// What the configuration files say.
#[derive(Debug)]
pub struct Parsed {
    pub model: ModelConfig,
    /// Tokens that end an answer; empty when no file names one.
    pub eos_token_ids: Vec<u32>,
}

#[derive(Debug, Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    text_config: Option<RawText>,
    vision_config: Option<RawVision>,
    eos_token_id: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
struct RawText {
    model_type: Option<String>,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_parameters: Option<RawRope>,
    rope_scaling: Option<RawRope>,
    attention_bias: Option<bool>,
    query_pre_attn_scalar: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    attn_logit_softcapping: Option<Option<f64>>,
    #[serde(default, deserialize_with = "present")]
    final_logit_softcapping: Option<Option<f64>>,
    #[serde(default, deserialize_with = "present")]
    sliding_window: Option<Option<usize>>,
    layer_types: Option<Vec<String>>,
    eos_token_id: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
struct RawRope {
    rope_type: Option<String>,
    rope_theta: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct RawVision {
    image_size: Option<usize>,
    patch_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct RawGeneration {
    eos_token_id: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
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
fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// Reads a checkpoint folder's configuration.
pub fn read(folder: &Path) -> Result<Parsed, CheckpointError> {
    let path = folder.join("config.json");
    let raw: RawConfig =
        read_json(&path)?.ok_or_else(|| CheckpointError::MissingFile { path: path.clone() })?;
    let generation: Option<RawGeneration> = read_json(&folder.join("generation_config.json"))?;
    let check = Check { path };

    let model_type = raw.model_type.unwrap_or_default();
    if model_type != "paligemma" {
        return Err(check.fail(
            "model_type",
            format!("{model_type:?}"),
            "this server runs \"paligemma\" (PaliGemma and PaliGemma 2) only",
        ));
    }
    let text = raw
        .text_config
        .ok_or_else(|| check.fail("text_config", "missing", "it must describe the decoder"))?;
    let vision = raw.vision_config.ok_or_else(|| {
        check.fail(
            "vision_config",
            "missing",
            "it must describe the image tower",
        )
    })?;
    // The reference generates with generation_config.json and falls back to the model's own.
    let eos_token_ids = generation
        .and_then(|generation| generation.eos_token_id)
        .or(raw.eos_token_id)
        .map(Vec::from);
    let text_eos = text.eos_token_id.as_ref().map(|ids| match ids {
        OneOrMany::One(id) => vec![*id],
        OneOrMany::Many(ids) => ids.clone(),
    });
    Ok(Parsed {
        eos_token_ids: eos_token_ids.or(text_eos).unwrap_or_default(),
        model: ModelConfig {
            vision: vision_config(vision, &check)?,
            text: text_config(text, &check)?,
        },
    })
}

/// A JSON file's content, `None` when there is no such file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CheckpointError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(CheckpointError::Unreadable {
                path: path.to_owned(),
                source,
            });
        }
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| CheckpointError::Json {
            path: path.to_owned(),
            source,
        })
}

fn text_config(raw: RawText, check: &Check) -> Result<TextConfig, CheckpointError> {
    let model_type = raw.model_type.as_deref().unwrap_or("gemma");
    let family = match model_type {
        "gemma" => Family::Gemma,
        "gemma2" => Family::Gemma2,
        other => {
            return Err(check.fail(
                "text_config.model_type",
                format!("{other:?}"),
                "it must be \"gemma\" (PaliGemma) or \"gemma2\" (PaliGemma 2)",
            ));
        }
    };
    check.activation("text_config.hidden_act", raw.hidden_act.as_deref())?;
    check.activation(
        "text_config.hidden_activation",
        raw.hidden_activation.as_deref(),
    )?;
    if raw.attention_bias == Some(true) {
        return Err(check.fail(
            "text_config.attention_bias",
            "true",
            "Gemma's projections have no bias",
        ));
    }
    let rope = raw.rope_parameters.or(raw.rope_scaling);
    if let Some(kind) = rope.as_ref().and_then(|rope| rope.rope_type.as_deref())
        && kind != "default"
    {
        return Err(check.fail(
            "text_config.rope_parameters.rope_type",
            format!("{kind:?}"),
            "it must be \"default\"",
        ));
    }

    let defaults = TextDefaults::of(family);
    let head_dim = raw.head_dim.unwrap_or(256);
    let layers = raw.num_hidden_layers.unwrap_or(defaults.layers);
    let heads = raw.num_attention_heads.unwrap_or(defaults.heads);
    let kv_heads = raw.num_key_value_heads.unwrap_or(defaults.kv_heads);
    let gemma2_only = |value: Option<Option<f64>>, default: f64| match family {
        Family::Gemma => None,
        Family::Gemma2 => value.unwrap_or(Some(default)),
    };
    let window = match family {
        Family::Gemma => None,
        Family::Gemma2 => raw.sliding_window.unwrap_or(Some(4096)),
    };
    let config = TextConfig {
        family,
        vocab_size: raw.vocab_size.unwrap_or(256_000),
        hidden_size: raw.hidden_size.unwrap_or(defaults.hidden_size),
        intermediate_size: raw.intermediate_size.unwrap_or(defaults.intermediate_size),
        heads,
        kv_heads,
        head_dim,
        rms_norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
        rope_theta: rope
            .and_then(|rope| rope.rope_theta)
            .or(raw.rope_theta)
            .unwrap_or(10_000.0),
        query_pre_attn_scalar: match family {
            Family::Gemma => head_dim as f64,
            Family::Gemma2 => raw.query_pre_attn_scalar.unwrap_or(256.0),
        },
        attention_softcap: gemma2_only(raw.attn_logit_softcapping, 50.0),
        final_softcap: gemma2_only(raw.final_logit_softcapping, 30.0),
        windows: windows(layers, raw.layer_types.as_deref(), window, check)?,
        max_position_embeddings: raw.max_position_embeddings.unwrap_or(8192),
    };
    for (field, value) in [
        ("text_config.vocab_size", config.vocab_size),
        ("text_config.hidden_size", config.hidden_size),
        ("text_config.intermediate_size", config.intermediate_size),
        ("text_config.num_hidden_layers", layers),
        ("text_config.num_attention_heads", heads),
        ("text_config.num_key_value_heads", kv_heads),
        ("text_config.head_dim", head_dim),
    ] {
        check.positive(field, value)?;
    }
    check.divides(
        "text_config.num_attention_heads",
        heads,
        kv_heads,
        "num_key_value_heads",
    )?;
    check.divides("text_config.head_dim", head_dim, 2, "2")?;
    Ok(config)
}

/// What the reference's class says where the file is silent.
struct TextDefaults {
    hidden_size: usize,
    intermediate_size: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
}

impl TextDefaults {
    fn of(family: Family) -> Self {
        match family {
            Family::Gemma => Self {
                hidden_size: 3072,
                intermediate_size: 24576,
                layers: 28,
                heads: 16,
                kv_heads: 16,
            },
            Family::Gemma2 => Self {
                hidden_size: 2304,
                intermediate_size: 9216,
                layers: 26,
                heads: 8,
                kv_heads: 4,
            },
        }
    }
}

/// Each layer's window: as `layer_types` says, else every second layer beginning with the first.
fn windows(
    layers: usize,
    types: Option<&[String]>,
    window: Option<usize>,
    check: &Check,
) -> Result<Vec<Option<usize>>, CheckpointError> {
    let Some(types) = types else {
        return Ok((0..layers).map(|i| window.filter(|_| i % 2 == 0)).collect());
    };
    if types.len() != layers {
        return Err(check.fail(
            "text_config.layer_types",
            format!("a list of {}", types.len()),
            &format!("it must name each of the {layers} layers"),
        ));
    }
    types
        .iter()
        .map(|kind| match kind.as_str() {
            "sliding_attention" => Ok(window),
            "full_attention" => Ok(None),
            other => Err(check.fail(
                "text_config.layer_types",
                format!("{other:?}"),
                "it must be \"full_attention\" or \"sliding_attention\"",
            )),
        })
        .collect()
}

fn vision_config(raw: RawVision, check: &Check) -> Result<VisionConfig, CheckpointError> {
    check.activation("vision_config.hidden_act", raw.hidden_act.as_deref())?;
    let config = VisionConfig {
        image_size: raw.image_size.unwrap_or(224),
        patch_size: raw.patch_size.unwrap_or(16),
        hidden_size: raw.hidden_size.unwrap_or(768),
        intermediate_size: raw.intermediate_size.unwrap_or(3072),
        layers: raw.num_hidden_layers.unwrap_or(12),
        heads: raw.num_attention_heads.unwrap_or(12),
        layer_norm_eps: raw.layer_norm_eps.unwrap_or(1e-6),
    };
    for (field, value) in [
        ("vision_config.image_size", config.image_size),
        ("vision_config.patch_size", config.patch_size),
        ("vision_config.hidden_size", config.hidden_size),
        ("vision_config.intermediate_size", config.intermediate_size),
        ("vision_config.num_hidden_layers", config.layers),
        ("vision_config.num_attention_heads", config.heads),
    ] {
        check.positive(field, value)?;
    }
    check.divides(
        "vision_config.image_size",
        config.image_size,
        config.patch_size,
        "patch_size",
    )?;
    check.divides(
        "vision_config.hidden_size",
        config.hidden_size,
        config.heads,
        "num_attention_heads",
    )?;
    Ok(config)
}

/// Makes errors that name the file.
struct Check {
    path: PathBuf,
}

impl Check {
    fn fail(
        &self,
        field: &'static str,
        value: impl Into<String>,
        allowed: &str,
    ) -> CheckpointError {
        CheckpointError::Config {
            path: self.path.clone(),
            field,
            value: value.into(),
            allowed: allowed.to_owned(),
        }
    }

    fn positive(&self, field: &'static str, value: usize) -> Result<(), CheckpointError> {
        match value {
            0 => Err(self.fail(field, "0", "it must be at least 1")),
            _ => Ok(()),
        }
    }

    fn divides(
        &self,
        field: &'static str,
        value: usize,
        by: usize,
        name: &str,
    ) -> Result<(), CheckpointError> {
        match value % by {
            0 => Ok(()),
            _ => {
                let allowed = format!("it must be a multiple of {name} ({by})");
                Err(self.fail(field, value.to_string(), &allowed))
            }
        }
    }

    fn activation(&self, field: &'static str, name: Option<&str>) -> Result<(), CheckpointError> {
        match name {
            None | Some("gelu_pytorch_tanh") => Ok(()),
            Some(other) => Err(self.fail(
                field,
                format!("{other:?}"),
                "it must be \"gelu_pytorch_tanh\"",
            )),
        }
    }
}
