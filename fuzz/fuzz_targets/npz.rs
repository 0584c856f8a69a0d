//! The mask decoder's file, NumPy's archive of arrays.
//!
//! It is opened, or refused in one line; an array that claims to be huge is not given the memory.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use paligemma_fuzz::{assert_one_line, folder_with};
use paligemma_server::models::open_mask_decoder;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| folder_with(&[]));

fuzz_target!(|file: &[u8]| {
    let path = FOLDER.path().join("vae-oid.npz");
    fs::write(&path, file).expect("a folder of its own");
    if let Err(error) = open_mask_decoder(&path) {
        assert_one_line(error);
    }
});
