//! How often, and after which waits, a failed request is tried again.

use std::time::Duration;

const ATTEMPTS: u32 = 5;

/// Waits that double, and end.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration) -> Self {
        Self { first, failures: 0 }
    }

    /// Waits before the next attempt; `false`, at once, when there should be none.
    pub(super) async fn wait(&mut self) -> bool {
        if self.failures == ATTEMPTS {
            return false;
        }
        tokio::time::sleep(self.first * 2u32.pow(self.failures)).await;
        self.failures += 1;
        true
    }

    /// Counts from the start again, after an attempt that got further.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many attempts have followed a failure.
    pub(super) fn retries(&self) -> u32 {
        self.failures
    }
}
