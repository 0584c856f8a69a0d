//! Whether the model takes requests now.

use std::time::Duration;

use super::error::{ApiError, ErrorCode};
use crate::engine::State;

/// How long a client should wait while the model is loading or the server is being replaced.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Returns why no requests are taken, if none are.
///
/// # Errors
/// 503 in every state but [`State::Ready`].
pub fn readiness(state: &State) -> Result<(), ApiError> {
    match state {
        State::Ready => Ok(()),
        State::Loading => Err(loading()),
        State::Restarting => Err(restarting()),
        State::Draining => Err(shutting_down()),
        State::Failed(reason) => Err(unavailable(reason)),
    }
}

pub fn loading() -> ApiError {
    let detail = "the model is still being loaded; try again in a few seconds";
    ApiError::new(ErrorCode::Loading, detail).retry_after(RETRY_AFTER)
}

fn restarting() -> ApiError {
    let detail = "the model failed and is being loaded again; try again in a few seconds";
    ApiError::new(ErrorCode::Loading, detail).retry_after(RETRY_AFTER)
}

pub fn shutting_down() -> ApiError {
    let detail = "the server is shutting down and takes no new requests; try again";
    ApiError::new(ErrorCode::ShuttingDown, detail).retry_after(RETRY_AFTER)
}

pub fn unavailable(reason: &str) -> ApiError {
    let detail = format!("the model has failed and the server is about to restart: {reason}");
    ApiError::new(ErrorCode::Unavailable, detail).retry_after(RETRY_AFTER)
}
