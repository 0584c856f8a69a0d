//! What tests, benches and examples share.

use std::path::{Path, PathBuf};

pub mod fake_hub;
pub mod flaky_model;
pub mod golden;
pub mod server;
pub mod toy_model;

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The folder of a golden checkpoint.
pub fn golden_checkpoint(name: &str) -> PathBuf {
    root().join("tests/goldens/model").join(name)
}
