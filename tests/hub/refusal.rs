//! Error messages of a fetch that fails.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::{fs, io};

use axum::http::StatusCode;
use paligemma_server::hub::{HubError, HubSettings, Wanted};

use super::{TOKEN, WEIGHTS, assert_says, failure, fetch, files, hub, settings, weights};
use paligemma_test_support::fake_hub::{FakeHub, Faults, ID};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_gated_repository_without_a_token_says_to_accept_the_licence_and_set_one() {
    let refuse = Some((StatusCode::UNAUTHORIZED, "GatedRepo"));
    let (hub, cache) = hub(Faults {
        refuse,
        ..Faults::default()
    })
    .await;
    let settings = HubSettings {
        token: None,
        ..settings(&hub, &cache)
    };
    let error = fetch(ID, None, Wanted::Checkpoint, &settings)
        .await
        .unwrap_err();
    assert!(
        matches!(error, HubError::TokenNeeded { status: 401, .. }),
        "{error:?}"
    );
    assert_says(
        &error,
        &[
            "no token was given",
            "accept the licence at https://huggingface.co/google/paligemma-test and set HF_TOKEN to a token of that account",
        ],
    );
}

#[tokio::test]
async fn a_refused_token_says_so_and_how_to_get_access() {
    for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
        let refuse = Some((status, "GatedRepo"));
        let (hub, cache) = hub(Faults {
            refuse,
            ..Faults::default()
        })
        .await;
        let error = failure(&hub, &cache).await;
        assert!(matches!(error, HubError::TokenRefused { .. }), "{error:?}");
        assert_says(
            &error,
            &[
                status.as_str(),
                "refused the given token",
                "accept the licence at https://huggingface.co/google/paligemma-test and set HF_TOKEN to a token of that account",
            ],
        );
    }
}

#[tokio::test]
async fn a_public_repository_with_gated_files_is_refused_alike() {
    let refuse_files = Some((StatusCode::FORBIDDEN, "GatedRepo"));
    let (hub, cache) = hub(Faults {
        refuse_files,
        ..Faults::default()
    })
    .await;
    let error = failure(&hub, &cache).await;
    assert!(
        matches!(error, HubError::TokenRefused { status: 403, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_log_tells_of_retries_in_words_and_the_token_is_in_no_error_and_no_log_line() {
    let log = Captured::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // For the whole process: a subscriber for this thread alone would miss events whose call site
    // another thread reached first. The other tests must not log the token either.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let refusals = [
        (StatusCode::UNAUTHORIZED, "GatedRepo"),
        (StatusCode::NOT_FOUND, "RepoNotFound"),
        (StatusCode::INTERNAL_SERVER_ERROR, ""),
        (StatusCode::BAD_REQUEST, ""),
    ];
    let (hub, cache) = hub(Faults::default()).await;
    for refusal in refusals {
        hub.set_faults(Faults {
            refuse: Some(refusal),
            ..Faults::default()
        });
        let by_api = failure(&hub, &cache).await;
        hub.set_faults(Faults {
            refuse_files: Some(refusal),
            ..Faults::default()
        });
        let by_file = failure(&hub, &cache).await;
        for error in [by_api, by_file] {
            assert!(!format!("{error} {error:?}").contains(TOKEN), "{error:?}");
        }
    }
    let settings = settings(&hub, &cache);
    hub.set_faults(Faults {
        cut: Some((150_000, 1)),
        ..Faults::default()
    });
    fetch(ID, None, Wanted::Checkpoint, &settings)
        .await
        .unwrap();
    tracing::info!(?settings, "settings");

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("the files are in the cache"));
    let endpoint = &settings.endpoint;
    for line in [
        &format!(
            "no usable response from the hub at {endpoint} (500 Internal Server Error); it is asked again in 1ms"
        ),
        "the download of model.safetensors was interrupted after 146.5 KiB of 390.6 KiB (the connection was cut); it resumes in 1ms",
    ] {
        assert!(log.contains(line), "no `{line}` in: {log}");
    }
    let leak = log.lines().find(|line| line.contains(TOKEN));
    assert_eq!(leak, None);
}

#[tokio::test]
async fn an_unknown_repository_or_revision_names_both() {
    let (hub, cache) = hub(Faults::default()).await;
    let settings = settings(&hub, &cache);
    for (id, revision) in [("google/nothing", None), (ID, Some("v9"))] {
        let error = fetch(id, revision, Wanted::Checkpoint, &settings)
            .await
            .unwrap_err();
        assert!(matches!(error, HubError::NotFound { .. }), "{error:?}");
        assert_says(
            &error,
            &[
                id,
                revision.unwrap_or("main"),
                "private repository also answers 404",
            ],
        );
    }
}

#[tokio::test]
async fn a_401_for_a_missing_repository_without_a_token_reads_not_found() {
    let refuse = Some((StatusCode::UNAUTHORIZED, "RepoNotFound"));
    let (hub, cache) = hub(Faults {
        refuse,
        ..Faults::default()
    })
    .await;
    let error = failure(&hub, &cache).await;
    assert!(matches!(error, HubError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_repository_without_a_needed_file_names_that_file() {
    let cases = [
        ("tokenizer.json", "has no tokenizer.json"),
        (
            WEIGHTS,
            "has no model.safetensors and no model.safetensors.index.json",
        ),
    ];
    for (absent, message) in cases {
        let mut files = files(&[(WEIGHTS, weights())]);
        files.remove(absent);
        let hub = FakeHub::start(files, Faults::default()).await;
        let cache = tempfile::tempdir().unwrap();
        assert_says(&failure(&hub, &cache).await, &[ID, message]);
    }
}

#[tokio::test]
async fn an_index_that_points_outside_its_folder_is_refused() {
    let index = r#"{"weight_map": {"a": "../../evil.safetensors"}}"#;
    let files = files(&[("model.safetensors.index.json", index.into())]);
    let hub = FakeHub::start(files, Faults::default()).await;
    let cache = tempfile::tempdir().unwrap();
    let error = failure(&hub, &cache).await;
    assert!(matches!(error, HubError::BadShardIndex { .. }), "{error:?}");
    assert_says(&error, &["../../evil.safetensors"]);
}

#[tokio::test]
async fn malformed_ids_and_revisions_are_refused_with_the_expected_form() {
    let (hub, cache) = hub(Faults::default()).await;
    let settings = settings(&hub, &cache);
    for id in [
        "paligemma",
        "a/b/c",
        "a/",
        "/b",
        "../b",
        "a/..",
        "a b/c",
        "a/b?c",
        "",
    ] {
        let error = fetch(id, None, Wanted::Checkpoint, &settings)
            .await
            .unwrap_err();
        assert!(
            matches!(error, HubError::InvalidId { .. }),
            "{id}: {error:?}"
        );
        assert_says(&error, &[&format!("`{id}`"), "owner/name"]);
    }
    for revision in ["", "../x", "a//b", "/etc", "a\\b", "a b"] {
        let error = fetch(ID, Some(revision), Wanted::Checkpoint, &settings)
            .await
            .unwrap_err();
        assert!(
            matches!(error, HubError::InvalidRevision { .. }),
            "{revision}: {error:?}"
        );
    }
    assert!(hub.seen().is_empty());
}

#[tokio::test]
async fn a_malformed_endpoint_is_named() {
    let (hub, cache) = hub(Faults::default()).await;
    for endpoint in ["huggingface.co", "ftp://huggingface.co"] {
        let endpoint = endpoint.to_owned();
        let settings = HubSettings {
            endpoint: endpoint.clone(),
            ..settings(&hub, &cache)
        };
        let error = fetch(ID, None, Wanted::Checkpoint, &settings)
            .await
            .unwrap_err();
        assert_says(&error, &[&endpoint, "HF_ENDPOINT"]);
    }
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_named_with_the_reason_in_words() {
    let (hub, cache) = hub(Faults::default()).await;
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let settings = HubSettings {
        endpoint: endpoint.clone(),
        ..settings(&hub, &cache)
    };
    let error = fetch(ID, None, Wanted::Checkpoint, &settings)
        .await
        .unwrap_err();
    assert_says(
        &error,
        &[
            &endpoint,
            "(the connection was refused): check the network, proxy and HF_ENDPOINT",
        ],
    );
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_names_the_path() {
    let (hub, cache) = hub(Faults::default()).await;
    let in_the_way = cache.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    let settings = HubSettings {
        cache_dir: in_the_way.clone(),
        ..settings(&hub, &cache)
    };
    let error = fetch(ID, None, Wanted::Checkpoint, &settings)
        .await
        .unwrap_err();
    assert!(matches!(error, HubError::Disk { .. }), "{error:?}");
    assert_says(&error, &[in_the_way.to_str().unwrap()]);
}

#[tokio::test]
async fn a_malformed_token_is_refused_without_being_repeated() {
    let (hub, cache) = hub(Faults::default()).await;
    let settings = HubSettings {
        token: Some(format!("{TOKEN}\nsecond line")),
        ..settings(&hub, &cache)
    };
    let error = fetch(ID, None, Wanted::Checkpoint, &settings)
        .await
        .unwrap_err();
    assert!(matches!(error, HubError::InvalidToken), "{error:?}");
    assert!(!error.to_string().contains(TOKEN));
    assert!(hub.seen().is_empty());
}
