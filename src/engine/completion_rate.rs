//! How quickly generations complete: the base of an honest `Retry-After`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many completions are remembered.
const REMEMBERED: usize = 32;
/// What a client is told at least and at most.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The moments at which the latest generations completed.
#[derive(Debug, Default)]
pub(super) struct CompletionRate {
    ends: VecDeque<Instant>,
}

impl CompletionRate {
    /// A generation completed and made room for another.
    pub(super) fn completed(&mut self, now: Instant) {
        if self.ends.len() == REMEMBERED {
            self.ends.pop_front();
        }
        self.ends.push_back(now);
    }

    /// Nothing is left to do: time that passes from now on says nothing about how quick the engine is.
    pub(super) fn idle(&mut self) {
        self.ends.clear();
    }

    /// How long it takes, at the measured rate, until `generations` more have completed: from one
    /// second, which is also the guess before anything was measured, to one minute.
    pub(super) fn time_for(&self, generations: usize, now: Instant) -> Duration {
        let Some(first) = self.ends.front() else {
            return SHORTEST;
        };
        let each = now.duration_since(*first).as_secs_f64() / self.ends.len() as f64;
        Duration::from_secs_f64(each * generations as f64).clamp(SHORTEST, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_follows_from_the_measured_rate() {
        let start = Instant::now();
        let mut rate = CompletionRate::default();
        for second in 0..10 {
            rate.completed(start + Duration::from_secs(second));
        }
        let now = start + Duration::from_secs(20);
        assert_eq!(rate.time_for(1, now), Duration::from_secs(2));
        assert_eq!(rate.time_for(5, now), Duration::from_secs(10));
    }

    #[test]
    fn idle_time_is_not_slowness() {
        let start = Instant::now();
        let mut rate = CompletionRate::default();
        rate.completed(start);
        rate.idle();
        rate.completed(start + Duration::from_secs(100));
        rate.completed(start + Duration::from_secs(102));
        let now = start + Duration::from_secs(104);
        assert_eq!(rate.time_for(1, now), Duration::from_secs(2));
    }

    #[test]
    fn the_wait_is_a_second_at_least_and_a_minute_at_most() {
        let now = Instant::now();
        let mut rate = CompletionRate::default();
        assert_eq!(rate.time_for(3, now), Duration::from_secs(1));
        rate.completed(now);
        assert_eq!(rate.time_for(3, now), Duration::from_secs(1));
        let later = now + Duration::from_secs(1000);
        assert_eq!(rate.time_for(3, later), Duration::from_secs(60));
    }
}
