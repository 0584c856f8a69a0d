//! The decoder's dimensions.

use super::check::{Check, MOST_LAYERS, MOST_TOKENS};
use super::{Family, TextConfig};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::raw::RawText;

/// What a file says of the decoder, with the reference's defaults for the rest.
pub fn text_config(raw: RawText, check: &Check) -> Result<TextConfig, CheckpointError> {
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
    // Before anything is made for each of them.
    check.at_most("text_config.num_hidden_layers", layers, MOST_LAYERS)?;
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
        ("text_config.hidden_size", config.hidden_size),
        ("text_config.intermediate_size", config.intermediate_size),
        ("text_config.num_attention_heads", heads),
        ("text_config.num_key_value_heads", kv_heads),
        ("text_config.head_dim", head_dim),
    ] {
        check.width(field, value)?;
    }
    check.at_most("text_config.vocab_size", config.vocab_size, MOST_TOKENS)?;
    let heads_together = "text_config.head_dim times num_attention_heads";
    check.width(heads_together, heads * head_dim)?;
    for (field, value) in [
        ("text_config.rope_theta", Some(config.rope_theta)),
        ("text_config.rms_norm_eps", Some(config.rms_norm_eps)),
        (
            "text_config.query_pre_attn_scalar",
            Some(config.query_pre_attn_scalar),
        ),
        (
            "text_config.attn_logit_softcapping",
            config.attention_softcap,
        ),
        ("text_config.final_logit_softcapping", config.final_softcap),
    ] {
        check.above_zero(field, value)?;
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
