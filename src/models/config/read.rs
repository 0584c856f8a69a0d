//! `config.json` and `generation_config.json`, with the defaults that published files rely on.
//!
//! A field that is left out has the value of the reference's configuration class
//! (`GemmaConfig`, `Gemma2Config`, `SiglipVisionConfig` of transformers).

use super::check::{Check, MOST_LAYERS};
use super::text::text_config;
use super::{ModelConfig, VisionConfig};
use crate::checkpoint::raw::{OneOrMany, RawVision};
use crate::checkpoint::{Checkpoint, CheckpointError};

/// A wider picture than any model takes.
const MOST_PIXELS: usize = 4096;

/// What the configuration files say.
#[derive(Debug)]
pub struct Parsed {
    pub model: ModelConfig,
    /// Tokens that end an answer; empty when no file names one.
    pub eos_token_ids: Vec<u32>,
}

/// Reads a checkpoint's configuration.
///
/// # Errors
/// When a file is missing or damaged, or is not of a PaliGemma that this server runs.
pub fn read(checkpoint: &Checkpoint) -> Result<Parsed, CheckpointError> {
    let raw = checkpoint.config()?;
    let generation = checkpoint.generation_config()?;
    let check = Check {
        path: checkpoint.path("config.json"),
    };

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
        ("vision_config.patch_size", config.patch_size),
        ("vision_config.hidden_size", config.hidden_size),
        ("vision_config.intermediate_size", config.intermediate_size),
        ("vision_config.num_attention_heads", config.heads),
    ] {
        check.width(field, value)?;
    }
    check.at_most("vision_config.image_size", config.image_size, MOST_PIXELS)?;
    check.at_most(
        "vision_config.num_hidden_layers",
        config.layers,
        MOST_LAYERS,
    )?;
    check.above_zero("vision_config.layer_norm_eps", Some(config.layer_norm_eps))?;
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

#[cfg(test)]
mod tests;
