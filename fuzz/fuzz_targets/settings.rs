//! Settings: a configuration file in TOML, variables of the environment, and secrets.
//!
//! They are taken, or refused in one line, and no error shows a key that clients or operators have to send.

#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use paligemma_fuzz::{assert_one_line, folder_with};
use paligemma_server::settings::Settings;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| folder_with(&[]));

fuzz_target!(|text: &str| {
    let file = FOLDER.path().join("config.toml");
    fs::write(&file, text).expect("a folder of its own");
    if let Err(error) = Settings::load(Some(&file), [], BTreeMap::new()) {
        assert_one_line(error);
    }
    let lines = text.lines().filter_map(|line| line.split_once(" = "));
    let variables = lines.map(|(key, value)| (format!("PALIGEMMA_{key}"), value.to_owned()));
    if let Err(error) = Settings::load(None, variables, BTreeMap::new()) {
        assert_one_line(error);
    }
    for key in ["api_keys", "adapter_admin_keys"] {
        let flags = BTreeMap::from([(key.to_owned(), format!("secret key{text}"))]);
        let refused = Settings::load(None, [], flags).expect_err("a key has no space");
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }
});
