//! How much of the server one key uses.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::error::{ApiError, ErrorCode};
use crate::settings::Settings;
use crate::telemetry::metrics;

/// How long a client should wait whose key has too many requests under way.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What each key may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests a minute.
    rate: Option<NonZeroU32>,
    /// Requests that are answered at the same time.
    concurrency: Option<NonZeroU32>,
}

/// What one key uses.
#[derive(Debug)]
pub struct Usage {
    name: Arc<str>,
    rate: Option<DefaultDirectRateLimiter>,
    concurrency: Option<Arc<Semaphore>>,
    limits: Limits,
}

/// One request of a key, which counts as under way until this is dropped.
#[derive(Debug)]
pub struct Turn {
    /// The key's name.
    pub name: Arc<str>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Limits {
    pub fn new(settings: &Settings) -> Self {
        Self {
            rate: NonZeroU32::new(settings.key_rate),
            concurrency: NonZeroU32::new(settings.key_concurrency),
        }
    }
}

impl Usage {
    /// Of a key of this name, which has used nothing.
    pub fn new(name: String, limits: Limits) -> Self {
        let semaphore = |most: NonZeroU32| Arc::new(Semaphore::new(most.get() as usize));
        Self {
            name: name.into(),
            rate: limits
                .rate
                .map(|rate| RateLimiter::direct(Quota::per_minute(rate))),
            concurrency: limits.concurrency.map(semaphore),
            limits,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts one more request.
    ///
    /// # Errors
    /// When that is one too many.
    pub fn turn(&self) -> Result<Turn, ApiError> {
        let permit = match &self.concurrency {
            None => None,
            Some(semaphore) => match Arc::clone(semaphore).try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => {
                    let most = self.limits.concurrency.map_or(0, NonZeroU32::get);
                    let detail = format!(
                        "this key has {most} requests under way, the most at a time (key_concurrency)"
                    );
                    return Err(refused(&self.name, detail, RETRY_AFTER));
                }
            },
        };
        if let Some(Err(not_yet)) = self.rate.as_ref().map(RateLimiter::check) {
            let rate = self.limits.rate.map_or(0, NonZeroU32::get);
            let detail = format!("this key has made its {rate} requests a minute (key_rate)");
            let wait = not_yet.wait_time_from(DefaultClock::default().now());
            return Err(refused(&self.name, detail, wait));
        }
        metrics::key_request(&self.name, "taken");
        Ok(Turn {
            name: Arc::clone(&self.name),
            _permit: permit,
        })
    }
}

fn refused(name: &str, detail: String, wait: Duration) -> ApiError {
    metrics::key_request(name, "refused");
    ApiError::new(ErrorCode::RateLimited, detail).retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(rate: u32, concurrency: u32) -> Usage {
        let limits = Limits {
            rate: NonZeroU32::new(rate),
            concurrency: NonZeroU32::new(concurrency),
        };
        Usage::new("alice".to_owned(), limits)
    }

    #[test]
    fn a_key_has_so_many_requests_a_minute_and_is_told_when_the_next_may_come() {
        let usage = usage(2, 0);
        assert!(usage.turn().is_ok() && usage.turn().is_ok());
        let refused = usage.turn().unwrap_err();
        assert_eq!(refused.code, ErrorCode::RateLimited);
        // Two a minute: the next comes half a minute after the first.
        let wait = refused.retry_after.unwrap().as_secs();
        assert!((25..=30).contains(&wait), "{wait}");
    }

    #[test]
    fn a_key_has_so_many_requests_at_a_time() {
        let usage = usage(0, 1);
        let first = usage.turn().unwrap();
        assert!(usage.turn().is_err());
        drop(first);
        assert!(usage.turn().is_ok());
    }
}
