//! A checkpoint's `config.json`.
//!
//! It is taken, or refused in one line. What is taken has numbers that can be reckoned with.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use paligemma_fuzz::{assert_one_line, folder_with};
use paligemma_server::checkpoint::Checkpoint;
use paligemma_server::models::config;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| folder_with(&[]));

fuzz_target!(|json: &[u8]| {
    fs::write(FOLDER.path().join("config.json"), json).expect("a folder of its own");
    let checkpoint = Checkpoint::open(FOLDER.path()).expect("the folder is there");
    match config::read(&checkpoint) {
        Ok(parsed) => {
            let model = parsed.model;
            assert!(model.image_tokens() > 0 && model.text.layers() > 0);
            assert!(model.text.heads.is_multiple_of(model.text.kv_heads));
            assert!(model.text.rope_theta.is_finite() && model.text.rms_norm_eps > 0.0);
        }
        Err(error) => assert_one_line(error),
    }
});
