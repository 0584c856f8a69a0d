//! Adapters that come while the server runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::served_names;
use crate::checkpoint::adapter::AdapterError;
use crate::checkpoint::{Adapter, WeightFiles};
use crate::models::{Adapters, Resident};
use crate::settings::Settings;

/// Opens adapters of one model, and knows those that are resident.
#[derive(Debug, Clone)]
pub struct AdapterLoader {
    pub list: Adapters,
    pub(super) weights: WeightFiles,
    pub(super) settings: Arc<Settings>,
}

impl AdapterLoader {
    /// Opens the adapter in `path`, which is in `adapter_dir` or relative to it. Reads files.
    ///
    /// # Errors
    /// When it lies elsewhere, is damaged, or does not fit the model or the settings.
    pub fn open(&self, name: &str, path: &str) -> Result<Resident, AdapterError> {
        check_name(&self.settings, name)?;
        let folder = self.confined(path)?;
        let most = self.settings.max_adapters;
        if self.list.all().len() >= most {
            return Err(AdapterError::TooMany { most });
        }
        let adapter = Adapter::open(&folder)?;
        check_adapter(&self.settings, name, &adapter)?;
        self.list.fit(name, adapter, &self.weights)
    }

    fn confined(&self, path: &str) -> Result<PathBuf, AdapterError> {
        let outside = || AdapterError::Outside {
            path: path.to_owned(),
        };
        let root = &self.settings.adapter_dir;
        let root = root.canonicalize().map_err(|_| outside())?;
        let folder = root.join(Path::new(path));
        let folder = folder.canonicalize().map_err(|_| outside())?;
        match folder.starts_with(&root) && folder != root {
            true => Ok(folder),
            false => Err(outside()),
        }
    }
}

/// Whether an adapter may be served under a name.
///
/// # Errors
/// When the name is the model's, or the adapter too large.
pub(super) fn check_adapter(
    settings: &Settings,
    name: &str,
    adapter: &Adapter,
) -> Result<(), AdapterError> {
    check_name(settings, name)?;
    if adapter.rank() > settings.max_lora_rank {
        return Err(AdapterError::Rank {
            path: adapter.path.clone(),
            rank: adapter.rank(),
            allowed: settings.max_lora_rank,
        });
    }
    if let Some(base) = adapter
        .base
        .as_deref()
        .filter(|base| *base != settings.model)
    {
        tracing::warn!(
            adapter = name,
            trained_on = base,
            model = settings.model,
            "the adapter names another base than the model that is served"
        );
    }
    Ok(())
}

/// Whether something may be called so.
fn check_name(settings: &Settings, name: &str) -> Result<(), AdapterError> {
    // It also becomes a metric's label.
    let known = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if name.is_empty() || name.len() > 128 || !name.chars().all(known) {
        return Err(AdapterError::Name {
            name: name.to_owned(),
        });
    }
    let (own, aliases) = served_names(settings);
    if own == name || aliases.iter().any(|alias| alias == name) {
        return Err(AdapterError::NameOfModel {
            name: name.to_owned(),
        });
    }
    Ok(())
}
