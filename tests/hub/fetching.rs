//! What a fetch requests, and what the cache holds afterwards.

use std::fs;
use std::path::Path;

use axum::http::Method;
use paligemma_server::hub::{HubSettings, Wanted};

use super::{TOKEN, WEIGHTS, assert_says, fetch, files, hub, repo, settings, weights};
use paligemma_test_support::fake_hub::{COMMIT, FakeHub, Faults, Host, ID, etag};

#[tokio::test]
async fn a_fetch_brings_the_files_that_exist_in_the_standard_cache_layout() {
    let (hub, cache) = hub(Faults::default()).await;
    let folder = fetch(ID, None, Wanted::Checkpoint, &settings(&hub, &cache))
        .await
        .unwrap();

    assert_eq!(folder, repo(&cache).join("snapshots").join(COMMIT));
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), weights());
    assert_eq!(
        fs::read(folder.join("preprocessor_config.json")).unwrap(),
        br#"{"is": "preprocessor_config.json"}"#
    );
    assert!(!folder.join("generation_config.json").exists());
    assert_eq!(
        fs::read(repo(&cache).join("refs/main")).unwrap(),
        COMMIT.as_bytes()
    );
    let link = fs::read_link(folder.join(WEIGHTS)).unwrap();
    let blob = Path::new("../../blobs").join(etag(WEIGHTS, &weights()));
    assert_eq!(link, blob);
    let blobs = fs::read_dir(repo(&cache).join("blobs")).unwrap().count();
    assert_eq!(blobs, 4, "nothing half done is left");
}

#[tokio::test]
async fn the_token_goes_to_the_hub_and_not_to_the_host_it_redirects_to() {
    let (hub, cache) = hub(Faults::default()).await;
    fetch(ID, None, Wanted::Checkpoint, &settings(&hub, &cache))
        .await
        .unwrap();

    let (at_hub, at_cdn): (Vec<_>, Vec<_>) = hub
        .seen()
        .into_iter()
        .partition(|request| request.host == Host::Hub);
    assert!(at_cdn.iter().any(|request| request.method == Method::GET));
    let bearer = format!("Bearer {TOKEN}");
    assert!(
        at_hub
            .iter()
            .all(|request| request.authorization.as_deref() == Some(&bearer))
    );
    assert!(at_cdn.iter().all(|request| request.authorization.is_none()));
}

#[tokio::test]
async fn without_a_token_no_authorization_is_sent() {
    let (hub, cache) = hub(Faults::default()).await;
    let settings = HubSettings {
        token: None,
        ..settings(&hub, &cache)
    };
    fetch(ID, None, Wanted::Checkpoint, &settings)
        .await
        .unwrap();
    assert!(
        hub.seen()
            .iter()
            .all(|request| request.authorization.is_none())
    );
}

#[tokio::test]
async fn all_shards_in_the_index_are_fetched_and_no_others() {
    let index = r#"{"weight_map": {"a": "m-1-of-2.safetensors", "b": "m-2-of-2.safetensors", "c": "m-1-of-2.safetensors"}}"#;
    let files = files(&[
        ("m-1-of-2.safetensors", vec![1; 5000]),
        ("m-2-of-2.safetensors", vec![2; 7000]),
        ("another.safetensors", vec![3; 100]),
        ("model.safetensors.index.json", index.into()),
    ]);
    let hub = FakeHub::start(files, Faults::default()).await;
    let cache = tempfile::tempdir().unwrap();
    let online = settings(&hub, &cache);
    let folder = fetch(ID, None, Wanted::Checkpoint, &online).await.unwrap();
    assert_eq!(
        fs::read(folder.join("m-1-of-2.safetensors")).unwrap(),
        vec![1; 5000]
    );
    assert_eq!(
        fs::read(folder.join("m-2-of-2.safetensors")).unwrap(),
        vec![2; 7000]
    );
    assert!(!folder.join("another.safetensors").exists());

    let offline = HubSettings {
        offline: true,
        ..online
    };
    assert_eq!(
        fetch(ID, None, Wanted::Checkpoint, &offline).await.unwrap(),
        folder
    );
    fs::remove_file(folder.join("m-2-of-2.safetensors")).unwrap();
    let error = fetch(ID, None, Wanted::Checkpoint, &offline)
        .await
        .unwrap_err();
    assert_says(&error, &["lacks m-2-of-2.safetensors in the cache"]);
}
