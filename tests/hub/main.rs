//! Fetching a checkpoint, against a small hub on loopback.

mod cached;
mod fetching;
mod interruption;
mod refusal;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use paligemma_server::hub::{HubError, HubSettings, Wanted};
use paligemma_test_support::fake_hub::{FakeHub, Faults, ID};
use tempfile::TempDir;

const TOKEN: &str = "hf_a_very_secret_token";
const WEIGHTS: &str = "model.safetensors";

fn weights() -> Vec<u8> {
    (0..100_000u32).flat_map(u32::to_le_bytes).collect()
}

fn files(weights: &[(&str, Vec<u8>)]) -> BTreeMap<String, Vec<u8>> {
    let small = ["config.json", "tokenizer.json", "preprocessor_config.json"];
    let small = small.map(|name| (name, format!(r#"{{"is": "{name}"}}"#).into_bytes()));
    let all = small.iter().chain(weights);
    all.map(|(name, content)| ((*name).to_owned(), content.clone()))
        .collect()
}

/// A hub with one complete checkpoint, and an empty cache.
async fn hub(faults: Faults) -> (FakeHub, TempDir) {
    let hub = FakeHub::start(files(&[(WEIGHTS, weights())]), faults).await;
    (hub, tempfile::tempdir().unwrap())
}

fn settings(hub: &FakeHub, cache: &TempDir) -> HubSettings {
    HubSettings {
        endpoint: hub.endpoint.clone(),
        token: Some(TOKEN.to_owned()),
        cache_dir: cache.path().to_owned(),
        offline: false,
        retry_delay: Duration::from_millis(1),
    }
}

/// Fetches whatever the repository is.
async fn fetch(
    id: &str,
    revision: Option<&str>,
    wanted: Wanted,
    settings: &HubSettings,
) -> Result<PathBuf, HubError> {
    paligemma_server::hub::fetch(id, revision, wanted, settings, &|_, _| None).await
}

async fn failure(hub: &FakeHub, cache: &TempDir) -> HubError {
    fetch(ID, None, Wanted::Checkpoint, &settings(hub, cache))
        .await
        .unwrap_err()
}

fn assert_says(error: &HubError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}

fn repo(cache: &TempDir) -> PathBuf {
    cache.path().join("models--google--paligemma-test")
}
