//! Whether the model takes requests now.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::{ApiError, ErrorCode};
use super::state::AppState;
use crate::engine::State;
use crate::telemetry::load_progress::LoadProgress;
use crate::telemetry::metrics;

/// How long a client should wait while nothing tells how long it takes.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The most that a client is told to wait: an estimate of more is not worth much.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Whether the server is about to stop: it still takes requests, and asks those who watch its health to send
/// no more. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Leaving(Arc<AtomicBool>);

impl Leaving {
    /// From now on it is.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
        metrics::ready(false);
    }
}

/// Returns why nobody should send requests here, if so: for health checks.
///
/// # Errors
/// 503 when no requests are taken, or soon none will be.
pub fn invites(state: &AppState) -> Result<(), ApiError> {
    match state.leaving.0.load(Ordering::Relaxed) {
        true => Err(shutting_down()),
        false => readiness(state),
    }
}

/// Returns why no requests are taken, if none are.
///
/// # Errors
/// 503 in every state but [`State::Ready`].
pub fn readiness(state: &AppState) -> Result<(), ApiError> {
    match state.engine.state() {
        State::Ready => Ok(()),
        State::Loading => Err(loading(&state.loading)),
        State::Restarting => Err(not_loaded(
            &state.loading,
            "the model failed and is being loaded again",
        )),
        State::Draining => Err(shutting_down()),
        State::Failed(reason) => Err(unavailable(&reason)),
    }
}

pub fn loading(progress: &LoadProgress) -> ApiError {
    not_loaded(progress, "the model is still being loaded")
}

fn not_loaded(progress: &LoadProgress, what: &str) -> ApiError {
    let share = progress.share();
    let detail = match progress.time_left() {
        Some(left) => format!(
            "{what}: {:.0} % so far, about {:.0} s left",
            share * 100.0,
            left.as_secs_f64().ceil()
        ),
        None => format!("{what}; try again in a few seconds"),
    };
    let wait = progress.time_left().unwrap_or(RETRY_AFTER);
    ApiError::new(ErrorCode::Loading, detail)
        .loaded(share)
        .retry_after(wait.min(LONGEST_WAIT))
}

pub fn shutting_down() -> ApiError {
    let detail = "the server is shutting down and takes no new requests; try again";
    ApiError::new(ErrorCode::ShuttingDown, detail).retry_after(RETRY_AFTER)
}

pub fn unavailable(reason: &str) -> ApiError {
    let detail = format!("the model has failed and the server is about to restart: {reason}");
    ApiError::new(ErrorCode::Unavailable, detail).retry_after(RETRY_AFTER)
}
