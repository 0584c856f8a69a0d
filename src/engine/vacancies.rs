//! When places became free of late, and so how long it takes until some do again: the base of an
//! honest `Retry-After`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many moments are remembered.
const REMEMBERED: usize = 32;
/// What a client is told before anything was measured.
const GUESS: Duration = Duration::from_secs(1);
/// What a client is told at least and at most.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(60);

/// The latest moments at which places became free. Those of the same moment, such as a batch's, count
/// as one: a client waits for the next moment, not for a share of it.
#[derive(Debug, Default)]
pub struct Vacancies {
    /// The time since the moment before, and how many places became free.
    moments: VecDeque<(Duration, usize)>,
    /// The latest moment; none after idle time.
    latest: Option<Instant>,
}

impl Vacancies {
    /// A place became free.
    pub fn free(&mut self, now: Instant) {
        match self.latest.replace(now) {
            Some(latest) if latest == now => {
                if let Some((_, places)) = self.moments.back_mut() {
                    *places += 1;
                }
            }
            Some(latest) => {
                if self.moments.len() == REMEMBERED {
                    self.moments.pop_front();
                }
                self.moments.push_back((now.duration_since(latest), 1));
            }
            None => {}
        }
    }

    /// Nothing is left to do: time that passes from now on says nothing about how quick the work is.
    pub fn idle(&mut self) {
        self.latest = None;
    }

    /// How long it takes, by what is remembered, until `places` become free: the median of what was
    /// still to wait as long after a moment as it is now.
    pub fn time_for(&self, places: usize, now: Instant) -> Duration {
        let elapsed = self.latest.map_or(Duration::ZERO, |latest| {
            now.saturating_duration_since(latest)
        });
        let waits = self.waits(places);
        let rest = waits.iter().filter_map(|wait| wait.checked_sub(elapsed));
        let wait = median(rest.filter(|rest| !rest.is_zero()))
            // It never took that long, so nothing is known of how much longer it takes.
            .or_else(|| median(waits.iter().copied()))
            .or_else(|| self.by_rate(places));
        wait.unwrap_or(GUESS).clamp(SHORTEST, LONGEST)
    }

    /// How long it took from each remembered moment until so many more places were free.
    fn waits(&self, places: usize) -> Vec<Duration> {
        let from = |start: usize| {
            let (mut took, mut freed) = (Duration::ZERO, 0);
            for (gap, count) in self.moments.range(start..) {
                took += *gap;
                freed += count;
                if freed >= places {
                    return Some(took);
                }
            }
            None
        };
        (0..self.moments.len()).map_while(from).collect()
    }

    /// For more places than are remembered.
    fn by_rate(&self, places: usize) -> Option<Duration> {
        let freed: usize = self.moments.iter().map(|(_, count)| count).sum();
        let took: Duration = self.moments.iter().map(|(gap, _)| gap).sum();
        let each = took.as_secs_f64() / freed as f64;
        (freed > 0).then(|| Duration::from_secs_f64(each * places as f64))
    }
}

fn median(durations: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut sorted: Vec<Duration> = durations.collect();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests;
