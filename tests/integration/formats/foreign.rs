//! What is no PaliGemma in the Hugging Face layout is refused by name, with what to use instead.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use paligemma_server::checkpoint::foreign::reason_against;
use paligemma_server::hub::{self, HubSettings, Wanted};
use paligemma_test_support::fake_hub::{FakeHub, Faults, ID};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{assert_says, refusal};

/// Files by name.
type Files = BTreeMap<String, Vec<u8>>;

/// A file of one small tensor under each of these names.
fn tensors(names: &[&str]) -> Vec<u8> {
    let bytes = [0; 4];
    let view = || safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &bytes);
    let named = names.iter().map(|name| (name, view().unwrap()));
    safetensors::serialize(named, None).unwrap()
}

fn file(name: &str, content: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (name.to_owned(), content.into())
}

fn config(fields: &Value) -> (String, Vec<u8>) {
    file("config.json", fields.to_string())
}

/// A folder with no other files than these.
fn folder(files: &Files) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// What people have, each with words of its refusal. None but the last need weights to be told.
fn cases() -> Vec<(Files, Vec<&'static str>)> {
    let quantized = |method: &str| {
        let quantization = json!({"quant_method": method, "bits": 4});
        let fields = json!({"model_type": "paligemma", "quantization_config": quantization});
        config(&fields)
    };
    let of_type = |model_type: &str| config(&json!({"model_type": model_type}));
    let adapter =
        json!({"peft_type": "LORA", "base_model_name_or_path": "google/paligemma-3b-pt-224"});
    let adapter = file("adapter_config.json", adapter.to_string());
    let colpali = json!({"model_type": "paligemma", "architectures": ["ColPali"]});
    let keras =
        json!({"class_name": "PaliGemmaBackbone", "module": "keras_hub.src.models.pali_gemma"});
    let compressed = json!({"model_type": "paligemma", "compression_config": {"format": "fp8"}});
    [
        (
            vec![quantized("gptq")],
            vec!["quantised by GPTQ", "made from"],
        ),
        (
            vec![quantized("awq")],
            vec!["quantised by AWQ", "made from"],
        ),
        (
            vec![quantized("compressed-tensors")],
            vec!["compressed-tensors", "made from"],
        ),
        (
            vec![quantized("torch\nao")],
            vec!["torch\\nao", "made from"],
        ),
        (
            vec![config(&compressed)],
            vec!["compression_config", "made from"],
        ),
        (
            vec![of_type("gemma3")],
            vec!["Gemma 3", "google/paligemma2-3b-mix-224"],
        ),
        (
            vec![of_type("gemma3n")],
            vec!["Gemma 3", "google/paligemma2-3b-mix-224"],
        ),
        (
            vec![config(&json!({"type": "pi0"}))],
            vec!["π0", "robot", "openpi", "LeRobot"],
        ),
        (
            vec![of_type("colqwen2")],
            vec!["ColPali", "embeddings", "colpali-engine"],
        ),
        (
            vec![config(&colpali)],
            vec!["ColPali", "embeddings", "colpali-engine"],
        ),
        (vec![config(&keras)], vec!["Keras", "-pt-", "-mix-"]),
        (
            vec![file("model.weights.h5", "x")],
            vec!["Keras", "model.weights.h5"],
        ),
        (vec![file("model.keras", "x")], vec!["Keras", "model.keras"]),
        (
            vec![file("paligemma-3b-pt-224.npz", "x")],
            vec!["JAX", "-pt-", "-mix-"],
        ),
        (vec![file("flax_model.msgpack", "x")], vec!["JAX"]),
        (
            vec![file("model-q4_0.gguf", "GGUF")],
            vec!["GGUF", "model-q4_0.gguf", "safetensors"],
        ),
        (
            vec![of_type("paligemma"), file("pytorch_model.bin", "x")],
            vec!["pickled"],
        ),
        (
            vec![adapter],
            vec![
                "an adapter and no model",
                "--model \"google/paligemma-3b-pt-224\"",
                "--merge-adapter",
                "--adapter",
            ],
        ),
    ]
    .map(|(files, words)| (files.into_iter().collect(), words))
    .into()
}

#[test]
fn folders_are_refused_by_what_they_are() {
    for (files, words) in cases() {
        let folder = folder(&files);
        let error = refusal(folder.path());
        assert_says(&error, &words);
        assert_says(&error, &[folder.path().to_str().unwrap()]);
    }
}

#[test]
fn tensors_tell_what_the_configuration_does_not() {
    for (names, words) in [
        (
            vec!["paligemma_with_expert.paligemma.lm_head.weight"],
            ["π0", "openpi"],
        ),
        (
            vec!["model.paligemma_with_expert.gemma_expert.lm_head.weight"],
            ["π0", "LeRobot"],
        ),
        (vec!["custom_text_proj.weight"], ["ColPali", "embeddings"]),
        (
            vec!["vlm.embedding_proj_layer.weight"],
            ["ColPali", "embeddings"],
        ),
        (
            vec!["multi_modal_projector.mm_input_projection_weight"],
            ["Gemma 3", "paligemma2"],
        ),
        (vec!["a.qweight", "a.g_idx"], ["GPTQ", "made from"]),
        (vec!["a.qweight", "a.qzeros"], ["AWQ", "made from"]),
        (vec!["a.weight_packed"], ["compressed-tensors", "made from"]),
    ] {
        let weights = file("model.safetensors", tensors(&names));
        let alone = folder(&Files::from([weights.clone()]));
        assert_says(&refusal(alone.path()), &words);
        let paligemma = config(&json!({"model_type": "paligemma"}));
        let configured = folder(&Files::from([weights, paligemma]));
        assert_says(&refusal(configured.path()), &words);
    }
}

/// Fetches a repository with these files as a model.
async fn fetched(files: Files) -> (FakeHub, String) {
    let hub = FakeHub::start(files, Faults::default()).await;
    let cache = tempfile::tempdir().unwrap();
    let settings = HubSettings {
        endpoint: hub.endpoint.clone(),
        token: None,
        cache_dir: cache.path().to_owned(),
        offline: false,
        retry_delay: std::time::Duration::from_millis(1),
    };
    let check = |folder: &Path, files: &[String]| reason_against(folder, ID, files);
    let fetched = hub::fetch(ID, None, Wanted::Checkpoint, &settings, &check).await;
    let error = fetched.unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    (hub, error)
}

#[tokio::test]
async fn repositories_are_refused_before_their_weights_are_fetched() {
    for (mut files, words) in cases() {
        // Weights that are as large as nobody wants to wait for.
        if words[0] != "an adapter and no model" && files.contains_key("config.json") {
            let weights = file("model.safetensors", vec![0; 1 << 20]);
            files.extend((words[0] != "pickled").then_some(weights));
        }
        let (hub, error) = fetched(files).await;
        assert_says(&error, &words);
        assert_says(&error, &[ID]);
        let downloads = hub.downloads();
        let small = |path: &str| path.ends_with("config.json");
        assert!(
            downloads.iter().all(|(path, _)| small(path)),
            "{downloads:?}"
        );
    }
}
