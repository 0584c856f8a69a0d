//! A bad checkpoint is refused with one line that says what is wrong with it.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use paligemma_server::layers::Weights;
use paligemma_server::models::{PaliGemma, Pretrained, WeightFormat};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A checkpoint of one file, f32, with transformers' own field names.
const GOOD: &str = "pg2-hub-f32";

/// A copy of a good checkpoint that a test may damage.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens/model")
        .join(GOOD);
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// What opening and loading a folder answers.
fn load(folder: &Path) -> Result<(), String> {
    let checkpoint = Pretrained::open(folder).map_err(|error| error.to_string())?;
    checkpoint
        .load(&Device::Cpu, WeightFormat::F32)
        .map(drop)
        .map_err(|error| error.to_string())
}

#[test]
fn loading_counts_every_byte_of_a_models_tensors() {
    let folder = copy();
    let checkpoint = Pretrained::open(folder.path()).unwrap();
    let weights = checkpoint.weights.clone();
    let progress = weights.progress.clone();
    progress.begin(weights.bytes());
    let vb = VarBuilder::from_backend(Box::new(weights), DType::F32, Device::Cpu);
    let weights = Weights::new(vb, WeightFormat::F32);
    let vocab_size = checkpoint.tokenizer.vocab_size();
    PaliGemma::load(&weights, &checkpoint.config, vocab_size).unwrap();
    assert_eq!(progress.share(), 1.0);
}

/// The error of a checkpoint that a change has damaged, asserted to be one line.
fn error_after(change: impl FnOnce(&Path)) -> String {
    let folder = copy();
    load(folder.path()).expect("the checkpoint is good before the change");
    change(folder.path());
    let error = load(folder.path()).unwrap_err();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

/// Writes the weights again under other names or shapes.
fn rewrite_weights(folder: &Path, change: impl Fn(&str, &mut Vec<usize>) -> Option<String>) {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let changed: Vec<_> = tensors
        .iter()
        .filter_map(|(name, view)| {
            let mut shape = view.shape().to_vec();
            let name = change(name, &mut shape)?;
            let view = safetensors::tensor::TensorView::new(view.dtype(), shape, view.data());
            Some((name, view.unwrap()))
        })
        .collect();
    let bytes = safetensors::serialize(changed, None).unwrap();
    fs::write(path, bytes).unwrap();
}

#[track_caller]
fn assert_says(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
}

#[test]
fn a_weight_that_is_not_finite_is_named_in_every_format() {
    for format in [WeightFormat::F32, WeightFormat::Q8_0, WeightFormat::Q4K] {
        let folder = copy();
        let path = folder.path().join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        // The last number of the file, whichever tensor it is of.
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let checkpoint = Pretrained::open(folder.path()).unwrap();
        let error = checkpoint
            .load(&Device::Cpu, format)
            .unwrap_err()
            .to_string();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let last = tensors
            .iter()
            .max_by_key(|(_, view)| view.data().as_ptr())
            .unwrap();
        assert_says(&error, &[last.0, "not finite"]);
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_folder_that_is_not_there() {
    let error = load(Path::new("/nowhere/at/all")).unwrap_err();
    assert_says(&error, &["/nowhere/at/all", "hub id"]);
}

#[test]
fn a_missing_file() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let error = error_after(|folder| fs::remove_file(folder.join(file)).unwrap());
        assert_says(&error, &[file, "missing"]);
    }
}

#[test]
fn a_shard_that_the_index_names_and_that_is_not_there() {
    let error = error_after(|folder| {
        let index = json!({"weight_map": {"x": "model-00002-of-00002.safetensors"}});
        fs::write(
            folder.join("model.safetensors.index.json"),
            index.to_string(),
        )
        .unwrap();
    });
    assert_says(&error, &["model-00002-of-00002.safetensors", "missing"]);
}

#[test]
fn a_missing_tensor_is_named_with_the_closest_names_there() {
    let error = error_after(|folder| {
        rewrite_weights(folder, |name, _| {
            Some(name.replace("layers.1.self_attn.q_proj", "layers.1.self_attn.q_projs"))
        });
    });
    assert_says(
        &error,
        &[
            "layers.1.self_attn.q_proj.weight is missing",
            "layers.1.self_attn.q_projs.weight",
        ],
    );
}

#[test]
fn a_wrong_shape_is_shown_with_the_right_one() {
    let error = error_after(|folder| {
        rewrite_weights(folder, |name, shape| {
            if name.ends_with("layers.0.mlp.down_proj.weight") {
                shape.reverse();
            }
            Some(name.to_owned())
        });
    });
    assert_says(&error, &["layers.0.mlp.down_proj.weight", "[64, ", ", 64]"]);
}

#[test]
fn truncated_weights() {
    let error = error_after(|folder| {
        let path = folder.join("model.safetensors");
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1000).unwrap();
    });
    assert_says(&error, &["model.safetensors", "cut off"]);
}

#[test]
fn weights_that_are_not_safetensors() {
    let error = error_after(|folder| {
        let header = b"\x10\0\0\0\0\0\0\0this is no header";
        fs::write(folder.join("model.safetensors"), header).unwrap();
    });
    assert_says(&error, &["model.safetensors", "not a safetensors file"]);
}

#[test]
fn a_line_break_in_a_tensors_name_makes_no_second_line() {
    let error = error_after(|folder| {
        let header = br#"{"a\nb": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}"#;
        let length = (header.len() as u64).to_le_bytes();
        let file = [&length[..], header, &[0; 4]].concat();
        fs::write(folder.join("model.safetensors"), file).unwrap();
    });
    assert_says(&error, &["model.safetensors", "not a safetensors file"]);
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn a_model_type_that_is_not_paligemma() {
    let error = error_after(|folder| {
        edit_json(&folder.join("config.json"), |config| {
            config["model_type"] = json!("llava");
        });
    });
    assert_says(&error, &["config.json", "model_type", "llava", "paligemma"]);
}

#[test]
fn a_decoder_that_is_not_gemma() {
    let error = error_after(|folder| {
        edit_json(&folder.join("config.json"), |config| {
            config["text_config"]["model_type"] = json!("llama");
        });
    });
    assert_says(&error, &["text_config.model_type", "llama", "gemma2"]);
}

#[test]
fn numbers_that_no_model_has() {
    for (part, field, value, allowed) in [
        (
            "text_config",
            "num_hidden_layers",
            json!(u64::MAX),
            "at most 512",
        ),
        ("text_config", "rope_theta", json!(0), "more than 0"),
        ("text_config", "rms_norm_eps", json!(-1e-6), "more than 0"),
        (
            "text_config",
            "attn_logit_softcapping",
            json!(0),
            "more than 0",
        ),
        (
            "vision_config",
            "num_hidden_layers",
            json!(1_000_000),
            "at most 512",
        ),
        (
            "vision_config",
            "image_size",
            json!(1_u64 << 40),
            "at most 4096",
        ),
        (
            "text_config",
            "head_dim",
            json!(1_u64 << 60),
            "at most 1048576",
        ),
        ("text_config", "head_dim", json!(1 << 20), "at most 1048576"),
        (
            "text_config",
            "vocab_size",
            json!(u64::MAX),
            "at most 16777216",
        ),
    ] {
        let error = error_after(|folder| {
            edit_json(&folder.join("config.json"), |config| {
                let part = config[part].as_object_mut().unwrap();
                part.remove("layer_types");
                part.remove("rope_parameters");
                part.insert(field.to_owned(), value);
            });
        });
        assert_says(&error, &[part, field, allowed]);
    }
}

#[test]
fn a_pipe_in_a_files_place() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let error = error_after(|folder| {
            let path = folder.join(file);
            fs::remove_file(&path).unwrap();
            let made = std::process::Command::new("mkfifo").arg(&path).status();
            assert!(made.unwrap().success());
        });
        assert_says(&error, &[file, "no regular file"]);
    }
}

#[test]
fn what_is_not_used_need_not_be_right() {
    let folder = copy();
    fs::write(folder.path().join("preprocessor_config.json"), b"\xff junk").unwrap();
    // transformers takes an image token outside the vocabulary, too.
    edit_json(&folder.path().join("config.json"), |config| {
        config["image_token_index"] = json!(99_999_999);
        config["image_token_id"] = json!(99_999_999);
    });
    load(folder.path()).unwrap();
}

#[test]
fn a_config_that_is_not_json() {
    let error = error_after(|folder| {
        fs::write(folder.join("config.json"), "{\"model_type\":").unwrap();
    });
    assert_says(&error, &["config.json", "line 1"]);
}

#[test]
fn a_tokenizer_without_an_image_token() {
    let error = error_after(|folder| {
        let path = folder.join("tokenizer.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("<image>", "<picture>")).unwrap();
    });
    assert_says(&error, &["tokenizer.json", "<image>"]);
}

#[test]
fn a_tokenizer_that_is_not_an_object() {
    let error = error_after(|folder| fs::write(folder.join("tokenizer.json"), "[]").unwrap());
    assert_says(&error, &["tokenizer.json"]);
}

#[test]
fn more_tokens_than_the_model_has_rows_for() {
    let error = error_after(|folder| {
        edit_json(&folder.join("tokenizer.json"), |file| {
            let token = json!({
                "id": 5000, "content": "<extra>", "special": false, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            });
            file["model"]["vocab"]["<extra>"] = json!(5000);
            file["added_tokens"].as_array_mut().unwrap().push(token);
        });
    });
    assert_says(&error, &["5001", "2026", "resize"]);
}

#[test]
fn weights_cut_off_inside_their_header() {
    let error = error_after(|folder| {
        let path = folder.join("model.safetensors");
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(500).unwrap();
    });
    assert_says(&error, &["model.safetensors", "cut off"]);
}
