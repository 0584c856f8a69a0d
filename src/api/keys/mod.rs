//! API keys: who may use the server, and how much of it.

mod file;
mod usage;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use ring::digest::{SHA256, digest};

use self::usage::Usage;
use super::error::{ApiError, ErrorCode};
use crate::settings::{ApiKey, Settings};

pub use file::KeyFileError;
pub use usage::Turn;

/// What a key hashes to.
type Hash = [u8; 32];

/// The keys of this server. Clones share them.
#[derive(Debug, Clone)]
pub struct Keys {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Those of the settings, which have no names of their own.
    listed: Vec<Hash>,
    file: Option<PathBuf>,
    limits: usage::Limits,
    current: RwLock<Arc<Vec<Key>>>,
}

/// A key, known by its name and its hash.
#[derive(Debug, Clone)]
struct Key {
    hash: Hash,
    usage: Arc<Usage>,
}

impl Keys {
    /// The keys of the settings, and those of the file that they name.
    ///
    /// # Errors
    /// When the file can't be read or has a line that is no key.
    pub fn new(settings: &Settings) -> Result<Self, KeyFileError> {
        let path = &settings.api_key_file;
        let file = (!path.as_os_str().is_empty()).then(|| path.clone());
        Self::of(&settings.api_keys, file, settings)
    }

    /// The keys of those who may load adapters.
    ///
    /// # Errors
    /// None; as [`new`](Self::new).
    pub fn of_admin(settings: &Settings) -> Result<Self, KeyFileError> {
        Self::of(&settings.adapter_admin_keys, None, settings)
    }

    fn of(
        listed: &[ApiKey],
        file: Option<PathBuf>,
        settings: &Settings,
    ) -> Result<Self, KeyFileError> {
        let keys = Self {
            shared: Arc::new(Shared {
                listed: listed
                    .iter()
                    .map(|key| hash(key.expose().as_bytes()))
                    .collect(),
                file,
                limits: usage::Limits::new(settings),
                current: RwLock::default(),
            }),
        };
        keys.reload()?;
        Ok(keys)
    }

    /// Reads the file again. Keys that stay keep what they have used of their limits.
    ///
    /// # Errors
    /// Those of the file, whose keys then stay as they are.
    pub fn reload(&self) -> Result<usize, KeyFileError> {
        let shared = &self.shared;
        let named = match &shared.file {
            Some(path) => file::read(path)?,
            None => Vec::new(),
        };
        let listed = shared.listed.iter().enumerate();
        let listed = listed.map(|(index, hash)| (format!("key-{}", index + 1), *hash));
        let before: HashMap<_, _> = self
            .current()
            .iter()
            .map(|key| (key.hash, key.usage.clone()))
            .collect();
        let keys: Vec<_> = listed
            .chain(named)
            .map(|(name, hash)| Key {
                hash,
                usage: match before.get(&hash) {
                    Some(usage) if usage.name() == name => usage.clone(),
                    _ => Arc::new(Usage::new(name, shared.limits)),
                },
            })
            .collect();
        let count = keys.len();
        *shared
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(count)
    }

    /// Whether a key is needed.
    pub fn are_needed(&self) -> bool {
        self.shared.file.is_some() || !self.shared.listed.is_empty()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.current().len()
    }

    /// Lets the key that is `token` have its turn, if it is one of these and has not used up its limits.
    ///
    /// # Errors
    /// When it is none, or has.
    pub fn turn(&self, token: &[u8]) -> Result<Turn, ApiError> {
        let sent = blake3::Hash::from(hash(token));
        // Hashes are compared in constant time, and every key is, even after a match: so the time of
        // an answer tells nothing about a key.
        let compare =
            |found: Option<Arc<Usage>>, key: &Key| match blake3::Hash::from(key.hash) == sent {
                true => Some(key.usage.clone()),
                false => found,
            };
        match self.current().iter().fold(None, compare) {
            Some(usage) => usage.turn(),
            None => Err(ApiError::new(
                ErrorCode::Unauthorized,
                "the key is not one of this server's",
            )),
        }
    }

    fn current(&self) -> Arc<Vec<Key>> {
        let current = self.shared.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }
}

fn hash(key: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key).as_ref());
    hash
}
