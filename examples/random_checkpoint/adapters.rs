//! Random LoRA adapters of a checkpoint, as PEFT writes them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use safetensors::tensor::{View, serialize_to_file};
use serde_json::json;

use crate::tensors::RandomTensor;
use crate::write_json;

/// The usual list of fine-tunes. SigLIP's layers have some of these names, too, and PEFT adapts them as well.
const TARGETS: [&str; 7] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
];

/// Writes an adapter of this rank for the base's tensors; each `seed` gives another one.
pub fn write(
    folder: &Path,
    base: &[(String, RandomTensor)],
    rank: usize,
    seed: usize,
) -> Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let config = json!({
        "peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": TARGETS,
    });
    write_json(folder, "adapter_config.json", &config)?;
    let path = folder.join("adapter_model.safetensors");
    serialize_to_file(tensors(base, rank, seed), None, &path)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// `lora_A` `[rank, inputs]` and `lora_B` `[outputs, rank]` of every target; their product is about a tenth
/// of the weight that it is added to.
fn tensors(
    base: &[(String, RandomTensor)],
    rank: usize,
    seed: usize,
) -> Vec<(String, RandomTensor)> {
    let mut tensors = Vec::new();
    for (name, weight) in base {
        let Some(module) = name.strip_suffix(".weight") else {
            continue;
        };
        let [outputs, inputs] = *weight.shape() else {
            continue;
        };
        if !TARGETS.iter().any(|target| module.ends_with(target)) {
            continue;
        }
        let product = 0.1 * weight.deviation();
        for (factor, shape, deviation) in [
            ("A", [rank, inputs], (inputs as f32).powf(-0.5)),
            (
                "B",
                [outputs, rank],
                product * (inputs as f32 / rank as f32).sqrt(),
            ),
        ] {
            let key = format!("base_model.model.{module}.lora_{factor}.weight");
            let seed = (seed * 100_000 + tensors.len()) as u64;
            tensors.push((key, RandomTensor::new(&shape, 0.0, deviation, seed)));
        }
    }
    tensors
}
