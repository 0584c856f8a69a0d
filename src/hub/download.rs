//! Downloads one file into the cache and resumes when the connection is cut.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use reqwest::{Response, StatusCode};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::cache::{RepoCache, create_parent, disk};
use super::error::HubError;
use super::remote::{Interruption, Remote, RemoteFile, transport_reason};
use crate::telemetry::progress::{ByteProgress, Progress, Verb};

const DOWNLOADING: Verb = Verb {
    doing: "downloading",
    done: "downloaded",
};

/// A blob being downloaded into the cache.
struct Download<'a> {
    remote: &'a Remote,
    commit: &'a str,
    file: &'a RemoteFile,
    partial: PathBuf,
}

/// Downloads a file's blob into the cache, resuming an earlier attempt.
pub(super) async fn download(
    remote: &Remote,
    commit: &str,
    file: &RemoteFile,
    cache: &RepoCache,
    progress: Progress,
) -> Result<(), HubError> {
    let _lock = cache.lock(&file.etag).await?;
    let blob = cache.blob(&file.etag);
    // Another process, or another revision with the same content, may have downloaded it.
    if blob.exists() {
        return Ok(());
    }
    let download = Download {
        remote,
        commit,
        file,
        partial: cache.partial(&file.etag),
    };
    create_parent(&blob)?;
    download.run(progress).await?;
    tokio::fs::rename(&download.partial, &blob)
        .await
        .map_err(disk("write", &blob))
}

impl Download<'_> {
    async fn run(&self, progress: Progress) -> Result<(), HubError> {
        let mut target = open(&self.partial).await?;
        let mut furthest = length(&target, &self.partial).await?;
        let mut shown = progress.start(DOWNLOADING, &self.file.name, self.file.size, furthest);
        let mut backoff = self.remote.backoff();
        loop {
            let reason = match self.attempt(&mut target, &mut shown).await {
                Ok(()) => break,
                Err(Interruption::Final(error)) => return Err(error),
                Err(Interruption::Transient(reason)) => reason,
            };
            let done = length(&target, &self.partial).await?;
            if done > furthest {
                furthest = done;
                backoff.reset();
            }
            let Some(pause) = backoff.pause() else {
                return Err(self.cut(done, backoff.retries(), reason));
            };
            let (file, total) = (&self.file.name, ByteSize(self.file.size));
            let done = ByteSize(done);
            tracing::warn!(
                "the download of {file} was interrupted after {done} of {total} ({reason}); it resumes in {pause:?}"
            );
            tokio::time::sleep(pause).await;
        }
        // Before the rename, so that a power cut can't leave a truncated blob.
        target
            .sync_all()
            .await
            .map_err(disk("write", &self.partial))?;
        shown.finish();
        Ok(())
    }

    /// Appends the missing bytes; on success the file is complete.
    async fn attempt(
        &self,
        target: &mut File,
        shown: &mut ByteProgress,
    ) -> Result<(), Interruption> {
        let size = self.file.size;
        let mut done = length(target, &self.partial).await?;
        if done > size {
            done = 0;
            self.truncate(target).await?;
        }
        if done == size {
            return Ok(());
        }
        let mut answer = self.open(done).await?;
        if done > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
            // A server without range support sends the whole file, so start over.
            done = 0;
            self.truncate(target).await?;
        }
        let announced = answer.content_length();
        if let Some(announced) = announced
            && done + announced != size
        {
            return Err(self.wrong_size(done + announced).await.into());
        }
        let written = self.write(target, &mut answer, done, shown).await;
        target.flush().await.map_err(disk("write", &self.partial))?;
        let done = written?;
        if done == size {
            return Ok(());
        }
        match announced {
            // Without an announced length, a cut looks like the end.
            None if done < size => Err(Interruption::Transient("it ended early".to_owned())),
            _ => Err(self.wrong_size(done).await.into()),
        }
    }

    async fn open(&self, from: u64) -> Result<Response, Interruption> {
        let range = (from > 0).then_some(from..self.file.size);
        self.remote.open(self.commit, &self.file.name, range).await
    }

    /// Appends a response's body and returns the file's new length.
    async fn write(
        &self,
        target: &mut File,
        answer: &mut Response,
        mut done: u64,
        shown: &mut ByteProgress,
    ) -> Result<u64, Interruption> {
        shown.advance(done);
        loop {
            let chunk = answer.chunk().await;
            let chunk = chunk.map_err(|error| Interruption::Transient(transport_reason(&error)))?;
            let Some(chunk) = chunk else { break };
            target
                .write_all(&chunk)
                .await
                .map_err(disk("write", &self.partial))?;
            done += chunk.len() as u64;
            shown.advance(done);
            if done > self.file.size {
                break;
            }
        }
        Ok(done)
    }

    async fn truncate(&self, target: &mut File) -> Result<(), HubError> {
        target
            .set_len(0)
            .await
            .map_err(disk("truncate", &self.partial))
    }

    async fn wrong_size(&self, got: u64) -> HubError {
        if let Err(error) = tokio::fs::remove_file(&self.partial).await {
            return disk("delete", &self.partial)(error);
        }
        HubError::WrongSize {
            id: self.remote.id().to_owned(),
            file: self.file.name.clone(),
            expected: self.file.size,
            got,
        }
    }

    fn cut(&self, done: u64, attempts: u32, reason: String) -> HubError {
        HubError::Cut {
            id: self.remote.id().to_owned(),
            file: self.file.name.clone(),
            done: ByteSize(done),
            total: ByteSize(self.file.size),
            attempts,
            reason,
        }
    }
}

async fn open(path: &Path) -> Result<File, HubError> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .await;
    file.map_err(disk("open", path))
}

async fn length(file: &File, path: &Path) -> Result<u64, HubError> {
    let metadata = file.metadata().await.map_err(disk("read", path))?;
    Ok(metadata.len())
}
