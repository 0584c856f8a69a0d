//! How often a failed request is retried, and how long to wait between attempts.

use std::time::Duration;

const ATTEMPTS: u32 = 5;

/// Pauses that double with each failure, up to a number of attempts.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration) -> Self {
        Self { first, failures: 0 }
    }

    /// How long to wait before the next attempt; `None` when no attempts are left.
    pub(super) fn pause(&mut self) -> Option<Duration> {
        if self.failures == ATTEMPTS {
            return None;
        }
        let pause = self.first * 2u32.pow(self.failures);
        self.failures += 1;
        Some(pause)
    }

    /// Starts counting again, after an attempt that made progress.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The number of retries since the last reset.
    pub(super) fn retries(&self) -> u32 {
        self.failures
    }
}
