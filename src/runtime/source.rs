//! Where the model is: in this binary, in a folder, or on the hub.

use std::path::{Path, PathBuf};

use super::RuntimeError;
use crate::checkpoint::{Adapter, CheckpointError, foreign};
use crate::hub::{self, HubSettings, Wanted};
use crate::models::{
    MaskDecoder, Pretrained, demo_mask_decoder, mask_decoder_in, open_mask_decoder,
};
use crate::settings::Settings;

/// The model that is built into this binary.
pub(super) const DEMO: &str = "demo";

/// A checkpoint that has been found.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// In this binary.
    Demo,
    Folder(PathBuf),
}

impl Source {
    /// The demo, the folder that was named, or the hub's model, downloaded.
    pub(super) async fn find(settings: &Settings) -> Result<Self, RuntimeError> {
        match settings.model.as_str() {
            DEMO => Ok(Self::Demo),
            name => {
                let revision = Some(settings.revision.as_str());
                let folder = folder(name, "--model", revision, Wanted::Checkpoint).await?;
                Ok(Self::Folder(folder))
            }
        }
    }

    /// Says that an adapter in the model's folder is not applied, unless it is one of those that were named.
    pub(super) fn mention_adapter<'a>(&self, mut named: impl Iterator<Item = &'a Adapter>) {
        let Self::Folder(folder) = self else { return };
        let own = folder.canonicalize().ok();
        let is_named = named.any(|adapter| adapter.path.canonicalize().ok() == own);
        if !is_named && folder.join("adapter_config.json").exists() {
            tracing::warn!(
                path = %folder.display(),
                "the model's folder also holds an adapter, which is not applied; name it with --merge-adapter or --adapter if it should be"
            );
        }
    }

    /// Reads tens of megabytes of tokenizer.
    pub(super) fn open(&self) -> Result<Pretrained, RuntimeError> {
        Ok(match self {
            Self::Demo => Pretrained::demo()?,
            Self::Folder(folder) => Pretrained::open(folder)?,
        })
    }

    /// The decoder that was named, or else the model's own, if it has one.
    pub(super) fn mask_decoder(
        &self,
        settings: &Settings,
    ) -> Result<Option<MaskDecoder>, RuntimeError> {
        Ok(match (settings.mask_decoder.as_str(), self) {
            ("", Self::Demo) => Some(demo_mask_decoder()?),
            ("", Self::Folder(folder)) => mask_decoder_in(folder)?,
            (file, _) => Some(open_mask_decoder(Path::new(file))?),
        })
    }
}

/// The adapter in a folder or on the hub, which the flag `--merge-adapter` or such named.
pub(super) async fn adapter(name: &str, flag: &'static str) -> Result<Adapter, RuntimeError> {
    let folder = folder(name, flag, None, Wanted::Adapter).await?;
    Ok(Adapter::open(&folder)?)
}

async fn folder(
    name: &str,
    flag: &'static str,
    revision: Option<&str>,
    wanted: Wanted,
) -> Result<PathBuf, RuntimeError> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    let name = name.to_owned();
    if path.exists() {
        return Err(file_for_folder(name, flag, wanted));
    }
    if !is_hub_id(&name) {
        return Err(RuntimeError::NotFound { flag, name });
    }
    let settings = HubSettings::from_env();
    let check = |folder: &Path, files: &[String]| foreign::reason_against(folder, &name, files);
    hub::fetch(&name, revision, wanted, &settings, &check)
        .await
        .map_err(|error| RuntimeError::Hub {
            name,
            error: Box::new(error),
        })
}

/// The error of a file where a folder is wanted.
fn file_for_folder(name: String, flag: &'static str, wanted: Wanted) -> RuntimeError {
    match foreign::reason_in_files(std::slice::from_ref(&name)) {
        Some(reason) if wanted == Wanted::Checkpoint => {
            let path = PathBuf::from(name);
            CheckpointError::Foreign { path, reason }.into()
        }
        _ => RuntimeError::IsFile { flag, name },
    }
}

/// `owner/name`, and nothing that is meant as a path.
fn is_hub_id(name: &str) -> bool {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [owner, model] => !model.is_empty() && !owner.is_empty() && !owner.starts_with(['.', '~']),
        _ => false,
    }
}
