//! Fetches a checkpoint from the Hugging Face hub into the cache that its tools share.

mod backoff;
mod cache;
mod download;
mod error;
mod remote;
mod settings;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Deserialize;

use cache::{RepoCache, disk, is_commit};
pub use error::HubError;
use remote::Remote;
pub use settings::HubSettings;

use crate::telemetry::progress::Progress;

const DEFAULT_REVISION: &str = "main";

/// Which files of a repository are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// `config.json`, `tokenizer.json`, `model.safetensors` or the index and its shards, and, if they
    /// exist, `tokenizer_config.json`, `preprocessor_config.json` and `generation_config.json`.
    Checkpoint,
    /// `adapter_config.json` and `adapter_model.safetensors`.
    Adapter,
}

impl Wanted {
    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Checkpoint => &["config.json", "tokenizer.json"],
            Self::Adapter => &["adapter_config.json"],
        }
    }

    fn optional(self) -> &'static [&'static str] {
        match self {
            Self::Checkpoint => &[
                "tokenizer_config.json",
                "preprocessor_config.json",
                "generation_config.json",
            ],
            Self::Adapter => &[],
        }
    }

    /// The weights in one file.
    fn single(self) -> &'static str {
        match self {
            Self::Checkpoint => "model.safetensors",
            Self::Adapter => "adapter_model.safetensors",
        }
    }

    /// What names the weights' files if they are several.
    fn index(self) -> Option<&'static str> {
        match self {
            Self::Checkpoint => Some("model.safetensors.index.json"),
            Self::Adapter => None,
        }
    }
}

/// Says why a repository is no checkpoint that can be used, if it is none, before its weights are fetched:
/// by the folder that has its `config.json` and `adapter_config.json` by then, and the names of all its
/// files, as far as the hub tells them.
pub type Check<'a> = &'a (dyn Fn(&Path, &[String]) -> Option<String> + Sync);

/// Fetches the files that are `wanted` of the repository `id` (`owner/name`) at a revision (a branch,
/// tag or commit; default `main`) and returns their folder.
///
/// Files in the cache are not downloaded again, and interrupted downloads resume, within this call
/// and after a restart. When the hub can't be reached, a complete checkpoint in the cache is used,
/// with a warning. Several processes may fetch at the same time.
///
/// `check` may refuse a repository that is to be fetched.
pub async fn fetch(
    id: &str,
    revision: Option<&str>,
    wanted: Wanted,
    settings: &HubSettings,
    check: Check<'_>,
) -> Result<PathBuf, HubError> {
    let (owner, name) = split_id(id)?;
    let revision = checked_revision(revision.unwrap_or(DEFAULT_REVISION))?;
    let cache = RepoCache::new(&settings.cache_dir, owner, name);
    if is_commit(revision) && is_settled(&cache, revision, wanted)? {
        return Ok(cache.snapshot(revision));
    }
    if settings.offline {
        return cached(&cache, revision, wanted)?.map_err(|missing| HubError::Offline {
            id: id.to_owned(),
            revision: revision.to_owned(),
            missing,
            cache_dir: settings.cache_dir.clone(),
        });
    }
    let remote = Remote::new(owner, name, settings)?;
    let commit = match remote.commit(revision).await {
        Err(HubError::Unreachable { endpoint, reason }) => {
            let Ok(folder) = cached(&cache, revision, wanted)? else {
                return Err(HubError::Unreachable { endpoint, reason });
            };
            tracing::warn!(
                folder = %folder.display(),
                "no usable response from the hub at {endpoint} ({reason}); the checkpoint in the cache is used"
            );
            return Ok(folder);
        }
        commit => commit?,
    };
    let checkpoint = Checkpoint {
        remote,
        cache,
        revision,
        commit: commit.hash,
        files: commit.files,
        wanted,
        check,
        progress: Progress::detect(),
    };
    checkpoint.fetch().await
}

/// A checkpoint at one commit, being fetched into the cache.
struct Checkpoint<'a> {
    remote: Remote,
    cache: RepoCache,
    revision: &'a str,
    commit: String,
    /// The names of all files; none if that is not known.
    files: Vec<String>,
    wanted: Wanted,
    check: Check<'a>,
    progress: Progress,
}

impl Checkpoint<'_> {
    async fn fetch(self) -> Result<PathBuf, HubError> {
        let started = Instant::now();
        // Small files first, so that their errors appear before gigabytes are downloaded.
        if self.wanted == Wanted::Checkpoint {
            self.refuse_foreign().await?;
        }
        for file in self.wanted.required() {
            self.require(file).await?;
        }
        for file in self.wanted.optional() {
            self.obtain(file).await?;
        }
        self.weights().await?;
        self.cache.remember(self.revision, &self.commit)?;
        let folder = self.cache.snapshot(&self.commit);
        tracing::info!(
            model = self.remote.id(),
            commit = self.commit,
            folder = %folder.display(),
            seconds = started.elapsed().as_secs(),
            "the files are in the cache"
        );
        Ok(folder)
    }

    /// Fetches what tells other kinds of repositories, and refuses them.
    async fn refuse_foreign(&self) -> Result<(), HubError> {
        let adapter = "adapter_config.json";
        let is_model = self.obtain("config.json").await?;
        if !is_model || self.files.iter().any(|file| file == adapter) {
            self.obtain(adapter).await?;
        }
        match (self.check)(&self.cache.snapshot(&self.commit), &self.files) {
            None => Ok(()),
            Some(reason) => Err(HubError::Foreign {
                id: self.remote.id().to_owned(),
                reason,
            }),
        }
    }

    async fn weights(&self) -> Result<(), HubError> {
        let single = self.wanted.single();
        if self.obtain(single).await? {
            return Ok(());
        }
        let Some(index) = self.wanted.index() else {
            return Err(self.missing(single));
        };
        if !self.obtain(index).await? {
            return Err(self.missing(&format!("{single} and no {index}")));
        }
        for shard in shards(&self.cache.snapshot(&self.commit).join(index))? {
            self.require(&shard).await?;
        }
        Ok(())
    }

    async fn require(&self, file: &str) -> Result<(), HubError> {
        if self.obtain(file).await? {
            Ok(())
        } else {
            Err(self.missing(file))
        }
    }

    /// Fetches a file into the snapshot. Returns `false` when the repository has no such file.
    async fn obtain(&self, file: &str) -> Result<bool, HubError> {
        let (cache, commit) = (&self.cache, &self.commit);
        if cache.has(commit, file) {
            return Ok(true);
        }
        if cache.is_known_absent(commit, file) {
            return Ok(false);
        }
        let Some(remote_file) = self.remote.describe(commit, file).await? else {
            cache.mark_absent(commit, file)?;
            return Ok(false);
        };
        download::download(&self.remote, commit, &remote_file, cache, self.progress).await?;
        cache.link(commit, file, &remote_file.etag)?;
        Ok(true)
    }

    fn missing(&self, file: &str) -> HubError {
        HubError::MissingFile {
            id: self.remote.id().to_owned(),
            revision: self.revision.to_owned(),
            file: file.to_owned(),
        }
    }
}

/// The cached snapshot of a revision, or the names of what is missing.
fn cached(
    cache: &RepoCache,
    revision: &str,
    wanted: Wanted,
) -> Result<Result<PathBuf, String>, HubError> {
    let Some(commit) = cache.commit_of(revision) else {
        return Ok(Err("everything".to_owned()));
    };
    let lacking = lacking(cache, &commit, wanted)?;
    if lacking.is_empty() {
        Ok(Ok(cache.snapshot(&commit)))
    } else {
        Ok(Err(lacking.join(", ")))
    }
}

/// Whether the cache has everything about a commit, so that the hub need not be asked.
fn is_settled(cache: &RepoCache, commit: &str, wanted: Wanted) -> Result<bool, HubError> {
    let settled = |file: &&str| cache.has(commit, file) || cache.is_known_absent(commit, file);
    Ok(wanted.optional().iter().all(settled) && lacking(cache, commit, wanted)?.is_empty())
}

/// The required files of a commit that the cache lacks.
fn lacking(cache: &RepoCache, commit: &str, wanted: Wanted) -> Result<Vec<String>, HubError> {
    let required = wanted.required().iter();
    let mut needed: Vec<String> = required.map(|&file| file.to_owned()).collect();
    let single = wanted.single();
    match wanted.index() {
        Some(index) if cache.has(commit, index) && !cache.has(commit, single) => {
            needed.extend(shards(&cache.snapshot(commit).join(index))?);
        }
        _ => needed.push(single.to_owned()),
    }
    needed.retain(|file| !cache.has(commit, file));
    Ok(needed)
}

/// The distinct files that a shard index names.
fn shards(path: &Path) -> Result<BTreeSet<String>, HubError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let bad = |reason: String| HubError::BadShardIndex {
        path: path.to_owned(),
        reason,
    };
    let bytes = std::fs::read(path).map_err(disk("read", path))?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    // These names are untrusted and become paths.
    match shards.iter().find(|shard| !is_shard_name(shard)) {
        Some(shard) => Err(bad(format!(
            "`{shard}` is not a .safetensors file beside it"
        ))),
        None if shards.is_empty() => Err(bad("its weight_map is empty".to_owned())),
        None => Ok(shards),
    }
}

fn is_shard_name(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.starts_with('.') && !name.contains(['/', '\\', ':'])
}

fn split_id(id: &str) -> Result<(&str, &str), HubError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let valid = |part: &str| {
        !part.is_empty() && !part.starts_with('.') && part.len() <= 96 && part.bytes().all(allowed)
    };
    id.split_once('/')
        .filter(|(owner, name)| valid(owner) && valid(name))
        .ok_or_else(|| HubError::InvalidId { id: id.to_owned() })
}

/// A revision becomes a path under `refs`, so it must not lead out of that folder.
fn checked_revision(revision: &str) -> Result<&str, HubError> {
    let valid = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.contains(|c: char| c.is_control() || c.is_whitespace() || "\\:".contains(c))
    };
    if revision.split('/').all(valid) {
        Ok(revision)
    } else {
        Err(HubError::InvalidRevision {
            revision: revision.to_owned(),
        })
    }
}
