//! What can be wrong with an adapter, told to whoever named it.

use std::path::PathBuf;

use thiserror::Error;

use crate::checkpoint::CheckpointError;

#[derive(Debug, Error)]
pub enum AdapterError {
    #[error("adapter {path} {reason}", path = path.display())]
    Invalid { path: PathBuf, reason: String },

    #[error(transparent)]
    File(#[from] Box<CheckpointError>),
}

impl From<CheckpointError> for AdapterError {
    fn from(error: CheckpointError) -> Self {
        Self::File(Box::new(error))
    }
}
