//! Admission: how many requests may be on their way to the model.
//!
//! The engine's queue bounds what waits for the model. Images are fetched and decoded before that, so
//! these requests are bounded too: an overload is then refused at once instead of filling the memory
//! with images and ending in timeouts. Of the time before, see [`super::uploads`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{ApiError, ErrorCode};
use super::kept_images::AnsweredKeys;
use super::uploads::Upload;
use crate::engine::{EngineHandle, Vacancies};
use crate::telemetry::metrics;

/// Bounds the requests on their way to the engine. Clones share the bound.
#[derive(Debug, Clone)]
pub struct Admission {
    permits: Arc<Semaphore>,
    vacancies: Arc<Mutex<Vacancies>>,
    limit: usize,
    queue: usize,
}

/// Counts a request among those on their way to the engine until its last clone is dropped.
#[derive(Debug, Clone)]
pub struct Permit {
    _place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
    vacancies: Arc<Mutex<Vacancies>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.vacancies).free(Instant::now());
    }
}

/// An extension of admitted requests.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// When the request's head had arrived.
    pub at: Instant,
    pub upload: Arc<Upload>,
    pub image_keys: AnsweredKeys,
}

impl Admission {
    /// One permit for each of the engine's slots and each place in its queue.
    pub fn new(slots: usize, queue: usize) -> Self {
        let limit = slots + queue;
        Self {
            permits: Arc::new(Semaphore::new(limit)),
            vacancies: Arc::default(),
            limit,
            queue,
        }
    }

    /// Refuses a request before its body is read, if it would be refused afterwards.
    ///
    /// # Errors
    /// When all permits are taken or the engine's queue is full.
    pub fn refuse_if_full(&self, engine: &EngineHandle) -> Result<(), ApiError> {
        if engine.has_room() {
            return match self.permits.available_permits() {
                0 => Err(self.full()),
                _ => Ok(()),
            };
        }
        metrics::rejected("queue_full", 1);
        let detail = format!("the queue is full ({} waiting)", self.queue);
        Err(ApiError::new(ErrorCode::QueueFull, detail).retry_after(engine.retry_after()))
    }

    /// Admits a request whose body is there.
    ///
    /// # Errors
    /// When all permits are taken; it says when to come back.
    pub fn acquire(&self) -> Result<Permit, ApiError> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let place = permit.map(|permit| Place {
            _permit: permit,
            vacancies: self.vacancies.clone(),
        });
        match place {
            Ok(place) => Ok(Permit {
                _place: Arc::new(place),
            }),
            Err(_) => Err(self.full()),
        }
    }

    /// The refusal when all permits are taken.
    fn full(&self) -> ApiError {
        // The body has not been read, so what it asks for counts as one.
        metrics::rejected("queue_full", 1);
        let detail = format!(
            "the server is full: {} requests are already being prepared",
            self.limit
        );
        let wait = lock(&self.vacancies).time_for(1, Instant::now());
        ApiError::new(ErrorCode::QueueFull, detail).retry_after(wait)
    }
}

/// A panic while this was locked leaves nothing half done, so poison is ignored.
fn lock(vacancies: &Mutex<Vacancies>) -> MutexGuard<'_, Vacancies> {
    vacancies.lock().unwrap_or_else(PoisonError::into_inner)
}
