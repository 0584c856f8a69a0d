//! What can be wrong with an adapter, told to whoever named it.

use std::path::PathBuf;

use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::error::escaped;

#[derive(Debug, Error)]
pub enum AdapterError {
    #[error("adapter {path} {reason}", path = path.display(), reason = escaped(reason))]
    Invalid { path: PathBuf, reason: String },

    #[error("there are two adapters called {0:?}; each needs a name of its own")]
    NameTaken(String),

    #[error(
        "{name:?} can't be an adapter's name: one has 1 to 128 letters, digits, and any of . _ - / among them"
    )]
    Name { name: String },

    #[error("adapter {name:?} has the name of the model")]
    NameOfModel { name: String },

    #[error("adapter {path} has rank {rank}, and max_lora_rank allows {allowed}", path = path.display())]
    Rank {
        path: PathBuf,
        rank: usize,
        allowed: usize,
    },

    #[error("there are {most} adapters already, as many as max_adapters allows; unload one first")]
    TooMany { most: usize },

    #[error("{path:?} is no folder inside of adapter_dir")]
    Outside { path: String },

    #[error(transparent)]
    File(#[from] Box<CheckpointError>),
}

impl From<CheckpointError> for AdapterError {
    fn from(error: CheckpointError) -> Self {
        Self::File(Box::new(error))
    }
}
