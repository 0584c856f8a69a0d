//! Exit codes, and the errors that have one of their own. `docs/command-line.md` lists them.

use paligemma_server::api::StartError;
use paligemma_server::kernels::{PlacementError, UnusableInstructions};
use paligemma_server::runtime::RuntimeError;
use paligemma_server::server::{ServerError, TlsError};
use paligemma_server::settings::SettingsError;

/// Arguments that are wrong, or that don't fit together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// `annotate` has done what it could, and some pictures have no label.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PicturesFailed(pub String);

/// 2 for wrong arguments or settings, like the flags that clap refuses; 3 when the model failed for
/// good while serving, so that the process's supervisor can restart it; 4 when pictures have no
/// label; otherwise 1.
pub fn code(error: &anyhow::Error) -> u8 {
    let runtime = error.downcast_ref::<RuntimeError>();
    let server = error.downcast_ref::<ServerError>();
    if error.is::<UsageError>()
        || error.is::<SettingsError>()
        || error.is::<TlsError>()
        || error.is::<PlacementError>()
        || error.is::<UnusableInstructions>()
        || runtime.is_some_and(RuntimeError::is_of_settings)
        || matches!(server, Some(ServerError::Start(StartError::Keys(_))))
    {
        2
    } else if matches!(server, Some(ServerError::Model(_))) {
        3
    } else if error.is::<PicturesFailed>() {
        4
    } else {
        1
    }
}
