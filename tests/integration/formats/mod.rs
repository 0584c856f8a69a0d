//! Files that people have: what bitsandbytes quantised is served, and what is no PaliGemma in the Hugging
//! Face layout is refused by name.

mod attacks;
mod foreign;
mod quantized;

use std::fs;
use std::path::Path;

use candle_core::Device;
use paligemma_server::models::{Pretrained, WeightFormat};
use paligemma_test_support::golden::Golden;
use tempfile::TempDir;

/// The golden of a quantised checkpoint.
fn golden(name: &str) -> Golden {
    let mut all = Golden::quantized().into_iter();
    all.find(|golden| golden.name() == name).unwrap()
}

/// A quantised checkpoint as transformers saves it, with the tokenizer of what was quantised.
fn checkpoint(golden: &Golden) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &Path, name: &str| fs::copy(from.join(name), folder.path().join(name));
    for name in ["config.json", "generation_config.json", "model.safetensors"] {
        copy(&golden.folder, name).unwrap();
    }
    let base = paligemma_test_support::golden_checkpoint(&golden.base);
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        copy(&base, name).unwrap();
    }
    folder
}

/// The error of opening or loading a folder, asserted to be one line.
fn refusal(folder: &Path) -> String {
    let opened = Pretrained::open(folder).map_err(|error| error.to_string());
    let loaded = opened.and_then(|checkpoint| {
        let model = checkpoint.load(&Device::Cpu, WeightFormat::F32);
        model.map_err(|error| error.to_string())
    });
    let error = loaded.map(drop).unwrap_err();
    assert_eq!(error.lines().count(), 1, "{error}");
    println!("{error}");
    error
}

#[track_caller]
fn assert_says(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
}
