//! How far the loading of a model has come: for the terminal or the log, and for clients that wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::progress::{ByteProgress, Progress, Verb};

/// Loading that takes no longer is not shown.
const SHOWN_AFTER: Duration = Duration::from_millis(500);

const LOADING: Verb = Verb {
    doing: "loading",
    done: "loaded",
};

/// The progress of one model's loading, counted in bytes of its files. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LoadProgress(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    stage: &'static str,
    total: u64,
    done: u64,
    shown: Option<ByteProgress>,
}

impl LoadProgress {
    /// Begins, perhaps once more, with `bytes` to be read.
    pub fn begin(&self, bytes: u64) {
        *self.lock() = State {
            began: Some(Instant::now()),
            total: bytes,
            ..State::default()
        };
    }

    /// The next part of the loading, in a few words.
    pub fn stage(&self, stage: &'static str) {
        let mut state = self.lock();
        state.stage = stage;
        state.rename();
    }

    /// `bytes` more are to be read than was said before.
    pub fn expect(&self, bytes: u64) {
        let mut state = self.lock();
        state.total += bytes;
        state.rename();
    }

    /// `bytes` need not be read after all.
    pub fn skip(&self, bytes: u64) {
        let mut state = self.lock();
        state.total = state.total.saturating_sub(bytes);
        state.rename();
    }

    /// `bytes` more have been read.
    pub fn advance(&self, bytes: u64) {
        let mut state = self.lock();
        state.done = (state.done + bytes).min(state.total);
        let (stage, total, done) = (state.stage, state.total, state.done);
        let slow = state
            .began
            .is_some_and(|began| began.elapsed() > SHOWN_AFTER);
        match &mut state.shown {
            Some(shown) => shown.advance(done),
            None if slow => {
                state.shown = Some(Progress::detect().start(LOADING, stage, total, done));
            }
            None => {}
        }
    }

    /// The loading has ended, well or not.
    pub fn end(&self) {
        let mut state = self.lock();
        state.done = state.total;
        if let Some(shown) = state.shown.take() {
            shown.clear();
        }
    }

    /// The share that is loaded, from 0 to 1.
    pub fn share(&self) -> f32 {
        let state = self.lock();
        match state.total {
            0 => 0.0,
            total => (state.done as f64 / total as f64) as f32,
        }
    }

    /// How long the rest will take if it goes on as until now; `None` while nothing tells.
    pub fn time_left(&self) -> Option<Duration> {
        let state = self.lock();
        if state.done == 0 {
            return None;
        }
        let left = (state.total - state.done) as f64 / state.done as f64;
        Some(state.began?.elapsed().mul_f64(left))
    }

    /// A panic while it was locked leaves nothing half done, so its poison is ignored.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn rename(&mut self) {
        if let Some(shown) = &mut self.shown {
            shown.rename(self.stage, self.total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_follows_the_bytes_and_what_is_expected() {
        let progress = LoadProgress::default();
        assert_eq!((progress.share(), progress.time_left()), (0.0, None));
        progress.begin(100);
        assert_eq!((progress.share(), progress.time_left()), (0.0, None));
        progress.advance(50);
        assert_eq!(progress.share(), 0.5);
        progress.expect(100);
        assert_eq!(progress.share(), 0.25);
        progress.skip(100);
        progress.advance(1000);
        assert_eq!(progress.share(), 1.0);
        assert_eq!(progress.time_left(), Some(Duration::ZERO));
        progress.begin(10);
        assert_eq!(progress.share(), 0.0);
        progress.end();
        assert_eq!(progress.share(), 1.0);
    }

    #[test]
    fn the_time_left_is_the_time_taken_for_as_much() {
        let progress = LoadProgress::default();
        progress.begin(3);
        std::thread::sleep(Duration::from_millis(5));
        progress.advance(1);
        let left = progress.time_left().unwrap();
        assert!(left >= Duration::from_millis(10), "{left:?}");
    }
}
