//! The names of an adapter's tensors.

use crate::checkpoint::weights::uniform_name;

/// What a tensor of an adapter is to its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `[rank, in]`.
    Down,
    /// `[out, rank]`.
    Up,
    /// `[out]`.
    UpBias,
    /// `[rank, rows]` of an embedding.
    EmbeddingDown,
    /// `[width, rank]` of an embedding.
    EmbeddingUp,
    /// The module's own weight, trained.
    Weight,
    Bias,
    /// The base's own weight, which PEFT copies into the file when an embedding is changed.
    CopiedWeight,
    CopiedBias,
}

/// The endings of names, and what such a tensor is.
const ENDINGS: [(&str, Part); 9] = [
    (".lora_A.weight", Part::Down),
    (".lora_B.weight", Part::Up),
    (".lora_B.bias", Part::UpBias),
    (".lora_embedding_A", Part::EmbeddingDown),
    (".lora_embedding_B", Part::EmbeddingUp),
    (".base_layer.weight", Part::CopiedWeight),
    (".base_layer.bias", Part::CopiedBias),
    (".weight", Part::Weight),
    (".bias", Part::Bias),
];

/// Kinds of tensors whose meaning is known and not supported.
const REFUSED: [(&str, &str); 4] = [
    (
        ".lora_magnitude_vector",
        "is a DoRA adapter; merge it with PEFT's merge_and_unload and serve the result",
    ),
    (
        ".trainable_tokens_delta",
        "trains single tokens (trainable_token_indices); merge it with PEFT's merge_and_unload and serve the result",
    ),
    (
        "custom_text_proj",
        "is of ColPali, which gives embeddings of pages and no text; run it with colpali-engine",
    ),
    (".lora_E", "is an AdaLoRA adapter; only LoRA is supported"),
];

/// Splits a tensor's name into the module's name in the model that was trained, its uniform name
/// here, and what the tensor is to it.
pub fn parse(key: &str) -> Result<(String, String, Part), String> {
    for (ending, reason) in REFUSED {
        if key.contains(ending) {
            return Err(format!("{reason} (tensor {key})"));
        }
    }
    let found = key.strip_prefix("base_model.model.").and_then(|name| {
        let ends = |&(ending, part)| name.strip_suffix(ending).map(|name| (name, part));
        ENDINGS.iter().find_map(ends)
    });
    let Some((name, part)) = found else {
        return Err(format!(
            "has the tensor {key}, whose name is none that PEFT gives a LoRA adapter's"
        ));
    };
    let uniform = match uniform_name(name) {
        name if name.ends_with("lm_head") => super::LM_HEAD.to_owned(),
        name => name,
    };
    Ok((name.to_owned(), uniform, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_of_names_becomes_one() {
        let layer = "layers.3.self_attn.q_proj";
        for (key, uniform, part) in [
            (
                format!("language_model.model.{layer}.lora_A.weight"),
                format!("language_model.{layer}"),
                Part::Down,
            ),
            (
                format!("model.language_model.{layer}.lora_B.weight"),
                format!("language_model.{layer}"),
                Part::Up,
            ),
            (
                format!("vision_tower.vision_model.encoder.{layer}.lora_B.bias"),
                format!("vision_tower.encoder.{layer}"),
                Part::UpBias,
            ),
            (
                format!("model.vision_tower.vision_model.encoder.{layer}.lora_A.weight"),
                format!("vision_tower.encoder.{layer}"),
                Part::Down,
            ),
            (
                format!("model.vision_tower.encoder.{layer}.lora_A.weight"),
                format!("vision_tower.encoder.{layer}"),
                Part::Down,
            ),
            (
                "language_model.model.embed_tokens.lora_embedding_A".to_owned(),
                super::super::EMBED_TOKENS.to_owned(),
                Part::EmbeddingDown,
            ),
            (
                "language_model.lm_head.lora_A.weight".to_owned(),
                super::super::LM_HEAD.to_owned(),
                Part::Down,
            ),
            (
                "model.multi_modal_projector.linear.bias".to_owned(),
                "multi_modal_projector.linear".to_owned(),
                Part::Bias,
            ),
        ] {
            let parsed = parse(&format!("base_model.model.{key}"));
            let (_, name, what) = parsed.unwrap();
            assert_eq!((name, what), (uniform, part), "{key}");
        }
    }

    #[test]
    fn names_that_are_not_known_are_refused() {
        for (key, part) in [
            ("model.layers.0.q_proj.lora_A.weight", "whose name is none"),
            (
                "base_model.model.lm_head.lora_magnitude_vector",
                "is a DoRA adapter",
            ),
            (
                "base_model.model.custom_text_proj.lora_A.weight",
                "is of ColPali",
            ),
            ("base_model.model.lm_head.lora_C.wait", "whose name is none"),
        ] {
            let refused = parse(key).unwrap_err();
            assert!(refused.contains(part), "{key}: {refused}");
        }
    }
}
