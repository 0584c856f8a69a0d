//! How many requests may be on their way to the engine at the same time.
//!
//! The engine's queue bounds what waits for the model. Bodies are read and images are decoded
//! before it: without a bound there too, an overload fills the memory with pictures and ends in
//! timeouts, where it should be refused at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{ApiError, ErrorCode};
use crate::engine::EngineHandle;
use crate::settings::Settings;
use crate::telemetry::metrics;

/// The places before the engine: as many as there are in it. Clones share them.
#[derive(Debug, Clone)]
pub struct Admission {
    permits: Arc<Semaphore>,
    places: usize,
}

/// One of the places; given back when dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    /// A place for each of the engine's slots, and for each request in its queue.
    pub fn new(settings: &Settings) -> Self {
        let places = settings.slots + settings.queue;
        Self {
            permits: Arc::new(Semaphore::new(places)),
            places,
        }
    }

    /// Takes a place, to be held until `engine` has taken the request.
    ///
    /// # Errors
    /// [`ErrorCode::QueueFull`] when all are taken.
    pub(super) fn enter(&self, engine: &EngineHandle) -> Result<Place, ApiError> {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => Ok(Place { _permit: permit }),
            Err(_) => {
                // Its body wasn't read, so what it asks for counts as one.
                metrics::rejected("queue_full", 1);
                let detail = format!(
                    "the server is full: {} requests are being received or prepared already",
                    self.places
                );
                Err(ApiError::new(ErrorCode::QueueFull, detail).retry_after(engine.retry_after()))
            }
        }
    }
}
