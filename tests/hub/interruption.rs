//! Connections that are cut, files of the wrong size, and two fetches at once.

use std::fs;

use paligemma_server::hub::{HubError, Wanted};

use super::{WEIGHTS, assert_says, failure, fetch, hub, repo, settings, weights};
use paligemma_test_support::fake_hub::{Faults, ID, etag};

#[tokio::test]
async fn a_cut_connection_is_resumed_from_the_byte_it_was_cut_at() {
    let (hub, cache) = hub(Faults {
        cut: Some((150_000, 1)),
        ..Faults::default()
    })
    .await;
    let folder = fetch(ID, None, Wanted::Checkpoint, &settings(&hub, &cache))
        .await
        .unwrap();

    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), weights());
    let ranges: Vec<_> = hub
        .downloads()
        .into_iter()
        .filter(|(path, _)| path.ends_with(WEIGHTS))
        .collect();
    let path = format!("/bytes/{WEIGHTS}");
    assert_eq!(
        ranges,
        [
            (path.clone(), None),
            (path, Some("bytes=150000-399999".to_owned()))
        ]
    );
}

#[tokio::test]
async fn a_server_that_ignores_ranges_makes_the_download_start_afresh() {
    let faults = Faults {
        cut: Some((150_000, 1)),
        ignore_ranges: true,
        ..Faults::default()
    };
    let (hub, cache) = hub(faults).await;
    let folder = fetch(ID, None, Wanted::Checkpoint, &settings(&hub, &cache))
        .await
        .unwrap();
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), weights());
}

#[tokio::test]
async fn a_connection_that_stays_cut_ends_the_fetch_and_a_new_start_resumes() {
    let (hub, cache) = hub(Faults {
        cut: Some((150_000, usize::MAX)),
        ..Faults::default()
    })
    .await;
    let error = failure(&hub, &cache).await;
    assert!(
        matches!(error, HubError::Cut { attempts: 5, .. }),
        "{error:?}"
    );
    assert_says(
        &error,
        &[
            WEIGHTS,
            "after 146.5 KiB of 390.6 KiB, and 5 retries made no progress (the connection was cut): start again to resume",
        ],
    );
    assert!(
        !repo(&cache).join("refs/main").exists(),
        "half a checkpoint is not offered"
    );

    hub.set_faults(Faults::default());
    let before = hub.downloads().len();
    let folder = fetch(ID, None, Wanted::Checkpoint, &settings(&hub, &cache))
        .await
        .unwrap();
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), weights());
    let range = Some("bytes=150000-399999".to_owned());
    assert_eq!(
        hub.downloads()[before..],
        [(format!("/bytes/{WEIGHTS}"), range)]
    );
}

#[tokio::test]
async fn a_file_of_another_size_than_announced_is_refused_and_deleted() {
    for announced in [399_999, 400_001] {
        let faults = Faults {
            announced_size: Some(announced),
            ..Faults::default()
        };
        let (hub, cache) = hub(faults).await;
        let error = failure(&hub, &cache).await;
        let expected = announced as u64;
        assert!(
            matches!(error, HubError::WrongSize { expected: e, got: 400_000, .. } if e == expected),
            "{error:?}"
        );
        assert_says(
            &error,
            &[
                WEIGHTS,
                &format!("announced {announced} bytes and sent 400000"),
            ],
        );
        let blobs = fs::read_dir(repo(&cache).join("blobs")).unwrap();
        let names: Vec<_> = blobs
            .map(|blob| blob.unwrap().file_name().into_string().unwrap())
            .collect();
        let weights = etag(WEIGHTS, &weights());
        assert!(
            !names.iter().any(|name| name.starts_with(&weights)),
            "{names:?}"
        );
    }
}

#[tokio::test]
async fn two_fetches_at_once_share_one_download_and_both_succeed() {
    let (hub, cache) = hub(Faults {
        cut: Some((150_000, 1)),
        ..Faults::default()
    })
    .await;
    let settings = settings(&hub, &cache);
    let (first, second) = tokio::join!(
        fetch(ID, None, Wanted::Checkpoint, &settings),
        fetch(ID, None, Wanted::Checkpoint, &settings)
    );
    let folder = first.unwrap();
    assert_eq!(second.unwrap(), folder);
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), weights());
    let of_weights = hub
        .downloads()
        .into_iter()
        .filter(|(path, _)| path.ends_with(WEIGHTS));
    assert_eq!(of_weights.count(), 2, "one that was cut and its resumption");
}
