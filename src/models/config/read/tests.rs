//! Configurations that leave out what the published ones leave out.

use serde_json::{Value, json};

use super::*;
use crate::models::config::{Family, TextConfig};

fn parse(config: Value) -> Result<Parsed, CheckpointError> {
    parse_with(config, None)
}

fn parse_with(config: Value, generation: Option<Value>) -> Result<Parsed, CheckpointError> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| {
        std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    };
    write("config.json", &config);
    if let Some(generation) = generation {
        write("generation_config.json", &generation);
    }
    read(&Checkpoint::open(folder.path())?)
}

fn published(text: Value, vision_extra: Value) -> Value {
    let mut vision = json!({
        "hidden_size": 1152, "intermediate_size": 4304, "model_type": "siglip_vision_model",
        "num_attention_heads": 16, "num_hidden_layers": 27, "num_image_tokens": 256,
        "patch_size": 14, "projector_hidden_act": "gelu_fast", "vision_use_head": false,
    });
    for (key, value) in vision_extra.as_object().unwrap() {
        vision[key] = value.clone();
    }
    json!({
        "model_type": "paligemma", "hidden_size": 2048, "eos_token_id": 1, "bos_token_id": 2,
        "text_config": text, "vision_config": vision,
    })
}

#[test]
fn paligemma_3b_leaves_out_the_head_dimension_the_rope_and_the_image_size() {
    let config = published(
        json!({
            "hidden_size": 2048, "intermediate_size": 16384, "model_type": "gemma",
            "num_attention_heads": 8, "num_hidden_layers": 18, "num_key_value_heads": 1,
            "torch_dtype": "float32", "vocab_size": 257216,
        }),
        json!({}),
    );
    let model = parse(config).unwrap().model;
    assert_eq!(model.image_tokens(), 256);
    assert_eq!(model.vision.layer_norm_eps, 1e-6);
    assert_eq!(
        model.text,
        TextConfig {
            family: Family::Gemma,
            vocab_size: 257_216,
            hidden_size: 2048,
            intermediate_size: 16384,
            heads: 8,
            kv_heads: 1,
            head_dim: 256,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            query_pre_attn_scalar: 256.0,
            attention_softcap: None,
            final_softcap: None,
            windows: vec![None; 18],
            max_position_embeddings: 8192,
        }
    );
}

#[test]
fn paligemma2_3b_leaves_out_the_heads_and_its_stale_fields_are_not_believed() {
    let config = published(
        json!({
            "hidden_size": 2304, "intermediate_size": 9216, "model_type": "gemma2",
            "num_hidden_layers": 26, "num_key_value_heads": 4, "query_pre_attn_scalar": 256,
            "sliding_window": 4096, "vocab_size": 257216,
        }),
        json!({"image_size": 448, "num_positions": 256}),
    );
    let model = parse(config).unwrap().model;
    assert_eq!(model.image_tokens(), 1024);
    let text = &model.text;
    assert_eq!(
        (text.hidden_size, text.heads, text.head_dim),
        (2304, 8, 256)
    );
    assert_eq!(
        (text.attention_softcap, text.final_softcap),
        (Some(50.0), Some(30.0))
    );
    assert_eq!(text.windows[..3], [Some(4096), None, Some(4096)]);
}

#[test]
fn paligemma2_28b_divides_scores_by_the_root_of_144() {
    let config = published(
        json!({
            "hidden_size": 4608, "intermediate_size": 36864, "model_type": "gemma2",
            "num_attention_heads": 32, "num_hidden_layers": 46, "num_key_value_heads": 16,
            "head_dim": 128, "query_pre_attn_scalar": 144, "vocab_size": 257216,
        }),
        json!({"image_size": 896}),
    );
    let model = parse(config).unwrap().model;
    assert_eq!(model.image_tokens(), 4096);
    assert_eq!(model.text.query_pre_attn_scalar, 144.0);
    assert_eq!(model.text.layers(), 46);
}

#[test]
fn what_transformers_5_writes_is_read() {
    let config = published(
        json!({
            "model_type": "gemma2", "num_hidden_layers": 2, "hidden_act": "gelu_pytorch_tanh",
            "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"},
            "layer_types": ["full_attention", "sliding_attention"], "sliding_window": 7,
            "attn_logit_softcapping": null, "dtype": "bfloat16",
            "use_bidirectional_attention": true,
        }),
        json!({}),
    );
    let text = parse(config).unwrap().model.text;
    assert_eq!(text.rope_theta, 5000.0);
    assert_eq!(text.windows, [None, Some(7)]);
    assert_eq!(
        (text.attention_softcap, text.final_softcap),
        (None, Some(30.0))
    );
}

#[test]
fn the_generation_config_names_the_tokens_that_end_an_answer_before_the_model_s() {
    let config = || {
        published(
            json!({"model_type": "gemma", "eos_token_id": [1, 107]}),
            json!({}),
        )
    };
    let eos = |config, generation| parse_with(config, generation).unwrap().eos_token_ids;
    assert_eq!(eos(config(), Some(json!({"eos_token_id": [1, 9]}))), [1, 9]);
    assert_eq!(eos(config(), None), [1]);
    let mut without = config();
    without.as_object_mut().unwrap().remove("eos_token_id");
    assert_eq!(eos(without, None), [1, 107]);
}

#[test]
fn impossible_dimensions_are_refused_with_field_and_value() {
    for (field, value) in [
        ("num_key_value_heads", json!(3)),
        ("num_attention_heads", json!(0)),
        ("hidden_activation", json!("relu")),
        ("rope_scaling", json!({"rope_type": "yarn"})),
        ("layer_types", json!(["full_attention"])),
    ] {
        let mut text = json!({"model_type": "gemma2", "num_attention_heads": 8});
        text[field] = value;
        let error = parse(published(text, json!({}))).unwrap_err();
        assert!(
            matches!(error, CheckpointError::Config { .. }),
            "{field}: {error}"
        );
    }
}
