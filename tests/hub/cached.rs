//! What the cache provides without, or instead of, the hub.

use std::fs;
use std::path::Path;

use axum::http::StatusCode;
use paligemma_server::hub::{HubError, HubSettings, Wanted};

use super::{WEIGHTS, assert_says, failure, fetch, files, hub, repo, settings, weights};
use paligemma_test_support::fake_hub::{COMMIT, Faults, ID, etag};

#[tokio::test]
async fn a_second_fetch_downloads_nothing_again() {
    let (hub, cache) = hub(Faults::default()).await;
    let settings = settings(&hub, &cache);
    let first = fetch(ID, None, Wanted::Checkpoint, &settings)
        .await
        .unwrap();
    let before = hub.seen().len();
    assert_eq!(
        fetch(ID, None, Wanted::Checkpoint, &settings)
            .await
            .unwrap(),
        first
    );
    let after: Vec<_> = hub.seen()[before..]
        .iter()
        .map(|request| request.path.clone())
        .collect();
    assert_eq!(after, [format!("/api/models/{ID}/revision/main")]);
}

#[tokio::test]
async fn a_commit_that_is_in_the_cache_asks_the_hub_nothing() {
    let (hub, cache) = hub(Faults::default()).await;
    let settings = settings(&hub, &cache);
    let folder = fetch(ID, Some("v1"), Wanted::Checkpoint, &settings)
        .await
        .unwrap();
    assert_eq!(
        fs::read(repo(&cache).join("refs/v1")).unwrap(),
        COMMIT.as_bytes()
    );
    let before = hub.seen().len();
    assert_eq!(
        fetch(ID, Some(COMMIT), Wanted::Checkpoint, &settings)
            .await
            .unwrap(),
        folder
    );
    assert_eq!(hub.seen().len(), before);
}

#[tokio::test]
async fn offline_with_an_empty_cache_says_what_is_missing_and_asks_nothing() {
    let (hub, cache) = hub(Faults::default()).await;
    let settings = HubSettings {
        offline: true,
        ..settings(&hub, &cache)
    };
    let error = fetch(ID, None, Wanted::Checkpoint, &settings)
        .await
        .unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error:?}");
    assert_says(&error, &["HF_HUB_OFFLINE is set", ID, "main", "everything"]);
    assert!(hub.seen().is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn offline_uses_a_snapshot_that_the_python_tools_made() {
    let (hub, cache) = hub(Faults::default()).await;
    let repo = repo(&cache);
    let snapshot = repo.join("snapshots").join(COMMIT);
    for folder in [&repo.join("refs"), &repo.join("blobs"), &snapshot] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(repo.join("refs/main"), COMMIT).unwrap();
    for (name, content) in files(&[(WEIGHTS, weights())]) {
        let etag = etag(&name, &content);
        fs::write(repo.join("blobs").join(&etag), content).unwrap();
        let target = Path::new("../../blobs").join(etag);
        std::os::unix::fs::symlink(target, snapshot.join(name)).unwrap();
    }
    let settings = HubSettings {
        offline: true,
        ..settings(&hub, &cache)
    };
    assert_eq!(
        fetch(ID, None, Wanted::Checkpoint, &settings)
            .await
            .unwrap(),
        snapshot
    );
    assert!(hub.seen().is_empty());
}

#[tokio::test]
async fn when_the_hub_is_down_the_cache_is_used_and_without_one_it_is_unreachable() {
    let (hub, cache) = hub(Faults::default()).await;
    let settings = settings(&hub, &cache);
    let folder = fetch(ID, None, Wanted::Checkpoint, &settings)
        .await
        .unwrap();
    let refuse = Some((StatusCode::SERVICE_UNAVAILABLE, ""));
    hub.set_faults(Faults {
        refuse,
        ..Faults::default()
    });
    assert_eq!(
        fetch(ID, None, Wanted::Checkpoint, &settings)
            .await
            .unwrap(),
        folder
    );

    let empty = tempfile::tempdir().unwrap();
    let error = failure(&hub, &empty).await;
    assert!(matches!(error, HubError::Unreachable { .. }), "{error:?}");
    assert_says(&error, &[&hub.endpoint, "503"]);
}
