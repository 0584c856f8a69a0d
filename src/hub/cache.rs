//! One repository in the cache that all Hugging Face tools share.
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
//! reads and writes the same layout but keeps its functions for it private.

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

/// Held while a blob is written; other processes, Python's `filelock` included, wait for its drop.
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

    /// The commit that a revision stood for when it was last fetched, if it ever was.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Remembers the commit that a branch or tag stands for; nothing to do for a commit itself.
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

    /// Where a blob grows. Not `<etag>.incomplete`: under that name other tools keep files that
    /// they filled out of order, and continuing one of those would leave holes.
    pub(super) fn partial(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(format!("{etag}.partial"))
    }

    /// Puts a blob into a commit's snapshot under its name there.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let path = self.snapshot(commit).join(file);
        create_parent(&path)?;
        replace(&path, |path| link_blob(&self.blob(etag), etag, path))
    }

    /// Waits until no other process writes this blob, then keeps others from writing it.
    pub(super) async fn lock(&self, etag: &str) -> Result<BlobLock, HubError> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        let file = File::create(&path).map_err(disk("create", &path))?;
        let mut waiting = false;
        // Polled instead of a blocking wait, which would outlive the start when that is cancelled.
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(BlobLock { _file: file }),
                Err(TryLockError::WouldBlock) => {
                    if !waiting {
                        tracing::info!(lock = %path.display(), "waiting for another process that is fetching the same file");
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

/// Whether a revision is a full commit hash, which can't come to mean something else.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Names the file and the action in an error of the file system.
pub(super) fn disk(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> HubError {
    let path = path.to_owned();
    move |source| HubError::Disk {
        action,
        path,
        source,
    }
}

pub(super) fn create_parent(path: &Path) -> Result<(), HubError> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    fs::create_dir_all(parent).map_err(disk("create", parent))
}

/// Makes `path` anew beside it and renames it there, so that nobody sees it half made or missing.
fn replace(path: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), HubError> {
    let beside = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4().simple()));
    make(&beside).map_err(disk("write", &beside))?;
    fs::rename(&beside, path).map_err(disk("write", path))
}

#[cfg(unix)]
fn link_blob(_blob: &Path, etag: &str, path: &Path) -> std::io::Result<()> {
    // From snapshots/<commit>/<file>; relative, so that the cache can be moved.
    std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), path)
}

#[cfg(not(unix))]
fn link_blob(blob: &Path, _etag: &str, path: &Path) -> std::io::Result<()> {
    fs::copy(blob, path).map(drop)
}
