//! One repository in the cache that Hugging Face tools share.
//!
//! ```text
//! <cache_dir>/models--owner--name/blobs/<etag>                the files' bytes
//!                                 snapshots/<commit>/<file>   links to blobs
//!                                 refs/<revision>             the commit of a branch or tag
//!                                 .no_exist/<commit>/<file>   files known not to exist
//! <cache_dir>/.locks/models--owner--name/<etag>.lock          held while a blob is written
//! ```
//!
//! Source: <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>. The `hf-hub` crate
//! uses the same layout, but its functions for it are private.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::HubError;

const LOCK_POLL: Duration = Duration::from_millis(200);

/// The folders of one repository.
#[derive(Debug)]
pub(super) struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
}

/// Held while a blob is written. Other processes, including Python's `filelock`, wait until it is
/// dropped.
#[derive(Debug)]
pub(super) struct BlobLock {
    _file: File,
}

impl RepoCache {
    pub(super) fn new(cache_dir: &Path, owner: &str, name: &str) -> Self {
        let folder = format!("models--{owner}--{name}");
        Self {
            root: cache_dir.join(&folder),
            locks: cache_dir.join(".locks").join(folder),
        }
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// The commit that a revision named when it was last fetched, if ever.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Records the commit that a branch or tag names. Does nothing for a commit itself.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        create_parent(&path)?;
        replace(&path, |path| fs::write(path, commit))
    }

    pub(super) fn has(&self, commit: &str, file: &str) -> bool {
        self.snapshot(commit).join(file).exists()
    }

    pub(super) fn is_known_absent(&self, commit: &str, file: &str) -> bool {
        self.no_exist(commit, file).exists()
    }

    pub(super) fn mark_absent(&self, commit: &str, file: &str) -> Result<(), HubError> {
        let path = self.no_exist(commit, file);
        create_parent(&path)?;
        fs::write(&path, b"").map_err(disk("write", &path))
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// The partial download of a blob. Not `<etag>.incomplete`: other tools fill files of that name
    /// out of order, so resuming one would leave holes.
    pub(super) fn partial(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(format!("{etag}.partial"))
    }

    /// Links a blob into a commit's snapshot as `file`.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let path = self.snapshot(commit).join(file);
        create_parent(&path)?;
        replace(&path, |path| link_blob(&self.blob(etag), etag, path))
    }

    /// Waits until no other process writes this blob, then locks it.
    pub(super) async fn lock(&self, etag: &str) -> Result<BlobLock, HubError> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        let file = File::create(&path).map_err(disk("create", &path))?;
        let mut waiting = false;
        // Poll, because a blocking wait can't be cancelled.
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(BlobLock { _file: file }),
                Err(TryLockError::WouldBlock) => {
                    if !waiting {
                        tracing::info!(lock = %path.display(), "another process is downloading this file; waiting for it");
                        waiting = true;
                    }
                    tokio::time::sleep(LOCK_POLL).await;
                }
                Err(TryLockError::Error(source)) => return Err(disk("lock", &path)(source)),
            }
        }
    }

    fn no_exist(&self, commit: &str, file: &str) -> PathBuf {
        self.root.join(".no_exist").join(commit).join(file)
    }
}

/// Whether a revision is a full commit hash, which always names the same content.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Adds the file and the action to a file system error.
pub(super) fn disk(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> HubError {
    let path = path.to_owned();
    move |error| HubError::Disk {
        action,
        path,
        error,
    }
}

pub(super) fn create_parent(path: &Path) -> Result<(), HubError> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    fs::create_dir_all(parent).map_err(disk("create", parent))
}

/// Creates the new `path` under a temporary name and renames it, so that readers never see it
/// incomplete or missing.
fn replace(path: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), HubError> {
    let beside = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4().simple()));
    make(&beside).map_err(disk("write", &beside))?;
    fs::rename(&beside, path).map_err(disk("write", path))
}

#[cfg(unix)]
fn link_blob(_blob: &Path, etag: &str, path: &Path) -> std::io::Result<()> {
    // Relative to snapshots/<commit>/<file>, so that the cache can be moved.
    std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), path)
}

#[cfg(not(unix))]
fn link_blob(blob: &Path, _etag: &str, path: &Path) -> std::io::Result<()> {
    fs::copy(blob, path).map(drop)
}
