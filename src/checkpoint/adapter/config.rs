//! `adapter_config.json`, as PEFT writes it.

use std::collections::BTreeMap;

use fancy_regex::Regex;
use serde::Deserialize;
use serde_json::Value;

/// What of a LoRA adapter's configuration changes its meaning.
#[derive(Debug, Deserialize)]
pub struct Config {
    #[serde(default)]
    pub peft_type: String,
    pub base_model_name_or_path: Option<String>,
    #[serde(default)]
    r: usize,
    #[serde(default)]
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    rank_pattern: Option<BTreeMap<String, usize>>,
    #[serde(default)]
    alpha_pattern: Option<BTreeMap<String, f64>>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    pub lora_bias: bool,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    init_lora_weights: Value,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Settings that change what an adapter computes, in ways that are not supported. `fan_in_fan_out` is not
/// among them: PEFT ignores it for every kind of layer that a PaliGemma has.
const REFUSED: [&str; 9] = [
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "arrow_config",
    "kasa_config",
];

/// Ways to begin a training that leave the base's weights as they are.
const HARMLESS_BEGINNINGS: [&str; 4] = ["gaussian", "eva", "orthogonal", "lora_ga"];

const ADVICE: &str = "merge it with PEFT's merge_and_unload and serve the result";

impl Config {
    /// Whether this is a LoRA adapter with nothing in it that is not supported.
    pub fn check(&self) -> Result<(), String> {
        if self.peft_type != "LORA" {
            return Err(format!(
                "has the peft_type {:?}; only LORA is supported",
                self.peft_type
            ));
        }
        let is_set = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(items) => !items.is_empty(),
            _ => true,
        };
        for name in REFUSED {
            if let Some(value) = self.others.get(name).filter(|value| is_set(value)) {
                return Err(format!(
                    "has {name} set to {value}, which is not supported; {ADVICE}"
                ));
            }
        }
        if let Some(bias) = self.bias.as_deref().filter(|bias| *bias != "none") {
            return Err(format!(
                "has trained the base's biases (bias is {bias:?}), which is not supported; {ADVICE}"
            ));
        }
        if let Value::String(beginning) = &self.init_lora_weights
            && !HARMLESS_BEGINNINGS.contains(&beginning.as_str())
        {
            return Err(format!(
                "has changed the base's weights when its training began (init_lora_weights is {beginning:?}); save it with path_initial_model_for_weight_conversion, or {ADVICE}"
            ));
        }
        Ok(())
    }

    /// Whether a module was trained as a whole.
    pub fn saves(&self, module: &str) -> bool {
        let saved = self.modules_to_save.iter().flatten();
        saved.map(String::as_str).any(|saved| {
            module.ends_with(saved) || format!(".{module}").contains(&format!(".{saved}."))
        })
    }

    /// The rank of a module, by its name in the model that was trained.
    pub fn rank(&self, module: &str) -> Result<usize, String> {
        Ok(matching(self.rank_pattern.as_ref(), module)?.unwrap_or(self.r))
    }

    /// What a module's product of rank `rank` is multiplied with.
    pub fn scale(&self, module: &str, rank: usize) -> Result<f64, String> {
        let alpha = matching(self.alpha_pattern.as_ref(), module)?.unwrap_or(self.lora_alpha);
        Ok(match self.use_rslora {
            // Kalajdzievski, arXiv 2312.03732.
            true => alpha / (rank as f64).sqrt(),
            false => alpha / rank as f64,
        })
    }
}

/// The value of the first pattern that is the module's name, or a regular expression for its end, from
/// the beginning of some part of it on: PEFT's `get_pattern_key`.
fn matching<T: Copy>(
    patterns: Option<&BTreeMap<String, T>>,
    module: &str,
) -> Result<Option<T>, String> {
    for (pattern, value) in patterns.into_iter().flatten() {
        let whole = format!(r"^(.*\.)?({pattern})$");
        let matches = Regex::new(&whole).and_then(|regex| regex.is_match(module));
        match matches {
            Ok(true) => return Ok(Some(*value)),
            Ok(false) => {}
            Err(error) => {
                return Err(format!(
                    "has the pattern {pattern:?} in rank_pattern or alpha_pattern, which is no regular expression: {error}"
                ));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Config {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn patterns_give_ranks_and_scales_of_single_modules() {
        let config = config(
            r#"{"peft_type": "LORA", "r": 8, "lora_alpha": 16,
                "rank_pattern": {"layers.1.self_attn.q_proj": 2, ".*\\.up_proj": 32},
                "alpha_pattern": {"q_proj": 4}}"#,
        );
        config.check().unwrap();
        let module = |name: &str| format!("model.language_model.layers.1.{name}");
        for (name, rank, scale) in [
            ("self_attn.q_proj", 2, 2.0),
            ("mlp.up_proj", 32, 0.5),
            ("self_attn.v_proj", 8, 2.0),
        ] {
            let name = module(name);
            let found = config.rank(&name).unwrap();
            assert_eq!(found, rank, "{name}");
            assert_eq!(config.scale(&name, found).unwrap(), scale, "{name}");
        }
        let other = "model.language_model.layers.11.self_attn.q_proj";
        assert_eq!(config.rank(other).unwrap(), 8);
    }

    #[test]
    fn rank_stabilised_adapters_are_scaled_by_the_root() {
        let config =
            config(r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true}"#);
        assert_eq!(config.scale("q_proj", 4).unwrap(), 4.0);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (json, part) in [
            (r#"{"peft_type": "IA3", "r": 1, "lora_alpha": 1}"#, "IA3"),
            (
                r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "use_dora": true}"#,
                "use_dora",
            ),
            (
                r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "bias": "all"}"#,
                "biases",
            ),
            (
                r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "init_lora_weights": "pissa"}"#,
                "pissa",
            ),
            (
                r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "layer_replication": [[0, 4]]}"#,
                "layer_replication",
            ),
        ] {
            let refused = config(json).check().unwrap_err();
            assert!(refused.contains(part), "{json}: {refused}");
        }
    }
}
