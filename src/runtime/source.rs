//! Where the model is: in this binary, in a folder, or on the hub.

use std::path::{Path, PathBuf};

use super::RuntimeError;
use crate::hub::{self, HubSettings};
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
            _ => Ok(Self::Folder(folder(settings).await?)),
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

async fn folder(settings: &Settings) -> Result<PathBuf, RuntimeError> {
    let name = settings.model.as_str();
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    if path.exists() {
        return Err(RuntimeError::ModelIsFile(name.to_owned()));
    }
    if !is_hub_id(name) {
        return Err(RuntimeError::NoModel(name.to_owned()));
    }
    hub::fetch(name, Some(&settings.revision), &HubSettings::from_env())
        .await
        .map_err(|error| RuntimeError::Hub {
            name: name.to_owned(),
            error: Box::new(error),
        })
}

/// `owner/name`, and nothing that is meant as a path.
fn is_hub_id(name: &str) -> bool {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [owner, model] => !model.is_empty() && !owner.is_empty() && !owner.starts_with(['.', '~']),
        _ => false,
    }
}
