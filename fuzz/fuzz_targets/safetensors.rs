//! Files of weights, as a checkpoint's, as an adapter's and as a mask decoder's.
//!
//! They are opened, or refused in one line. The tensors that are found lie inside the file, and reading
//! one gives it or an error.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use candle_core::{DType, Device};
use candle_nn::var_builder::SimpleBackend;
use libfuzzer_sys::fuzz_target;
use paligemma_fuzz::{assert_one_line, folder_with, golden};
use paligemma_server::checkpoint::{Adapter, Checkpoint, WeightFiles};
use paligemma_server::models::open_mask_decoder;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> =
    LazyLock::new(|| folder_with(&[golden("adapters/pg1-usual-bf16/adapter_config.json")]));
static BASE: LazyLock<WeightFiles> = LazyLock::new(|| {
    let base = Checkpoint::open(&golden("model/pg1-hub")).expect("a golden");
    WeightFiles::open(&base).expect("a golden")
});

fuzz_target!(|file: &[u8]| {
    for name in [
        "model.safetensors",
        "adapter_model.safetensors",
        "vae-oid.safetensors",
    ] {
        fs::write(FOLDER.path().join(name), file).expect("a folder of its own");
    }
    let checkpoint = Checkpoint::open(FOLDER.path()).expect("the folder is there");
    match WeightFiles::open(&checkpoint) {
        Ok(weights) => {
            assert!(weights.bytes() <= file.len() as u64);
            assert!(weights.values() <= 2 * file.len() as u64);
            if let Err(error) = weights.get_unchecked("tensor", DType::F32, &Device::Cpu) {
                assert_one_line(error);
            }
        }
        Err(error) => assert_one_line(error),
    }
    if let Err(error) = Adapter::open(FOLDER.path()).and_then(|adapter| adapter.fit(&BASE)) {
        assert_one_line(error);
    }
    if let Err(error) = open_mask_decoder(&FOLDER.path().join("vae-oid.safetensors")) {
        assert_one_line(error);
    }
});
