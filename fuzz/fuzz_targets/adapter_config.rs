//! An adapter's `adapter_config.json`, beside weights that stay the same.
//!
//! It is taken, or refused in one line. What is taken fits the weights and has scales that are finite.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use paligemma_fuzz::{assert_one_line, folder_with, golden};
use paligemma_server::checkpoint::Adapter;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    folder_with(&[golden(
        "adapters/pg1-fan-in-fan-out/adapter_model.safetensors",
    )])
});

fuzz_target!(|json: &[u8]| {
    fs::write(FOLDER.path().join("adapter_config.json"), json).expect("a folder of its own");
    match Adapter::open(FOLDER.path()) {
        Ok(adapter) => {
            let pairs = adapter
                .modules
                .values()
                .filter_map(|it| it.low_rank.as_ref());
            for pair in pairs {
                assert!((1..=adapter.rank()).contains(&pair.rank));
                assert!(pair.scale.is_finite());
                let product = pair.product().expect("its shapes were checked");
                assert_eq!(product.rank(), 2);
            }
        }
        Err(error) => assert_one_line(error),
    }
});
