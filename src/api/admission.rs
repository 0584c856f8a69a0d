//! Admission: how many requests may be on their way to the model.
//!
//! The engine's queue bounds what waits for the model. Bodies are received and images are decoded
//! before that, so these requests are bounded too: an overload is then refused at once instead of
//! filling the memory with images and ending in timeouts.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{ApiError, ErrorCode};
use crate::engine::EngineHandle;
use crate::settings::Settings;
use crate::telemetry::metrics;

/// Bounds the requests on their way to the engine. Clones share the bound.
#[derive(Debug, Clone)]
pub struct Admission {
    permits: Arc<Semaphore>,
    limit: usize,
}

/// Counts a request among those on their way to the engine until its last clone is dropped.
#[derive(Debug, Clone)]
pub struct Permit {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// An extension of admitted requests.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// When the request's head had arrived.
    pub at: Instant,
    /// To be held until the engine has taken the request.
    pub permit: Permit,
}

impl Admission {
    /// One permit for each of the engine's slots and each place in its queue.
    pub fn new(settings: &Settings) -> Self {
        let limit = settings.slots + settings.queue;
        Self {
            permits: Arc::new(Semaphore::new(limit)),
            limit,
        }
    }

    /// Admits a request.
    ///
    /// # Errors
    /// When all permits are taken; it says when to come back.
    pub fn acquire(&self, engine: &EngineHandle) -> Result<Permit, ApiError> {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => Ok(Permit {
                _permit: Arc::new(permit),
            }),
            Err(_) => {
                // The body has not been read, so what it asks for counts as one.
                metrics::rejected("queue_full", 1);
                let detail = format!(
                    "the server is full: {} requests are already being received or prepared",
                    self.limit
                );
                Err(ApiError::new(ErrorCode::QueueFull, detail).retry_after(engine.retry_after()))
            }
        }
    }
}
