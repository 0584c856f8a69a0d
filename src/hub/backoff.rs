//! How often a failed request is retried, and how long to wait between attempts.

use std::time::Duration;

const ATTEMPTS: u32 = 5;

/// Waits that double with each failure, up to a number of attempts.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration) -> Self {
        Self { first, failures: 0 }
    }

    /// Waits before the next attempt. Returns `false` at once when no attempts are left.
    pub(super) async fn wait(&mut self) -> bool {
        if self.failures == ATTEMPTS {
            return false;
        }
        tokio::time::sleep(self.first * 2u32.pow(self.failures)).await;
        self.failures += 1;
        true
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
