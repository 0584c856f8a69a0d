//! State shared by the handle, the worker and the watchdog: the scheduler, a condition variable
//! that wakes the threads that wait for work, and the engine's public state.

use std::collections::{HashSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::change::Change;
use super::scheduler::{Limits, Scheduler};
use super::sequence::Sequence;
use super::vacancies::Vacancies;
use super::{Failure, State};
use crate::models::AdapterId;
use crate::telemetry::metrics;

pub(super) struct Shared {
    inner: Mutex<Inner>,
    wake: Condvar,
    /// Changes only while `inner` is locked, so that no request slips in after a last look.
    state: watch::Sender<State>,
    /// Known once the model is loaded.
    image_tokens: OnceLock<usize>,
}

/// Locked for moments only, never while the model works or text is made.
pub(super) struct Inner {
    pub scheduler: Scheduler<Sequence>,
    /// Of the adapters, in the order asked for.
    pub changes: VecDeque<Change>,
    /// Adapters that have gone or are about to.
    pub removed: HashSet<AdapterId>,
    pub vacancies: Vacancies,
    /// No more requests come: the worker ends when all are answered.
    pub closing: bool,
    /// When the requests that are left end with an error.
    close_at: Option<Instant>,
    /// When the step that is under way began.
    pub step_began: Option<Instant>,
    /// The worker is gone, or has been given up.
    pub ended: bool,
}

impl Inner {
    /// Takes out every sequence that nobody waits for or that is late, running or waiting.
    fn retire(&mut self, now: Instant) -> Vec<Sequence> {
        let mut retired = self
            .scheduler
            .retire_running(|sequence| sequence.is_over(now));
        retired.extend(
            self.scheduler
                .retire_waiting(|sequence| sequence.is_over(now)),
        );
        for _ in &retired {
            self.vacancies.free(now);
        }
        if !retired.is_empty() {
            self.report_load();
        }
        retired
    }

    /// Frees the slot of a sequence that has ended.
    pub(super) fn release(&mut self, slot: usize, now: Instant) -> Option<Sequence> {
        let sequence = self.scheduler.release(slot)?;
        self.vacancies.free(now);
        Some(sequence)
    }

    /// Whether what is left must end now.
    pub(super) fn is_past_closing(&self, now: Instant) -> bool {
        self.close_at.is_some_and(|close_at| close_at <= now)
    }

    /// Everything, waiting or in a slot.
    pub(super) fn drain(&mut self) -> Vec<Sequence> {
        let mut all = self.scheduler.retire_running(|_| true);
        all.extend(self.scheduler.retire_waiting(|_| true));
        self.report_load();
        all
    }

    /// Brings the gauges of the load up to date, and tells those who wait their places.
    pub(super) fn report_load(&self) {
        metrics::load(self.scheduler.queued(), self.scheduler.slots_used());
        for (place, sequence) in self.scheduler.places() {
            sequence.tell_place(place);
        }
    }
}

impl Shared {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            inner: Mutex::new(Inner {
                scheduler: Scheduler::new(limits),
                changes: VecDeque::new(),
                removed: HashSet::new(),
                vacancies: Vacancies::default(),
                closing: false,
                close_at: None,
                step_began: None,
                ended: false,
            }),
            wake: Condvar::new(),
            state: watch::Sender::new(State::Loading),
            image_tokens: OnceLock::new(),
        }
    }

    /// A panic while this was locked leaves nothing half done in it, so its poison is ignored.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the worker and the watchdog.
    pub(super) fn wake(&self) {
        self.wake.notify_all();
    }

    /// Waits for [`Self::wake`], for `limit` at most if there is one.
    pub(super) fn wait<'a>(
        &self,
        inner: MutexGuard<'a, Inner>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, Inner> {
        match limit {
            None => self
                .wake
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                let waited = self.wake.wait_timeout(inner, limit);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Aborts every sequence that nobody waits for or that is late.
    pub(super) fn retire(&self, now: Instant) {
        let retired = self.lock().retire(now);
        for sequence in retired {
            sequence.output.lock().abort();
        }
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Tokens that stand for one image; 0 before the model is loaded.
    pub(super) fn image_tokens(&self) -> usize {
        self.image_tokens.get().copied().unwrap_or(0)
    }

    /// Whether the model was ever loaded.
    pub(super) fn was_loaded(&self) -> bool {
        self.image_tokens.get().is_some()
    }

    /// The model is loaded: requests are taken on, unless the engine is closing already.
    pub(super) fn open(&self, image_tokens: usize) {
        let inner = self.lock();
        self.image_tokens.get_or_init(|| image_tokens);
        if !inner.closing && !inner.ended {
            self.set_state(&inner, State::Ready);
        }
    }

    /// Takes on no more requests, and lets what is left end at `close_at`. Returns the state before.
    pub(super) fn close(&self, close_at: Option<Instant>) -> State {
        let mut inner = self.lock();
        inner.closing = true;
        inner.close_at = [inner.close_at, close_at].into_iter().flatten().min();
        let was = self.state();
        if matches!(was, State::Loading | State::Ready | State::Restarting) {
            self.set_state(&inner, State::Draining);
        }
        self.wake();
        was
    }

    /// The model failed and is built again. Sequences in the model go back to the queue; the one
    /// that is to blame, if that is sure, ends with `reason`.
    pub(super) fn restart(&self, reason: &str) {
        let mut inner = self.lock();
        inner.step_began = None;
        if self.state() == State::Ready {
            self.set_state(&inner, State::Restarting);
        }
        let to_blame = inner.scheduler.recover(Sequence::prefill_tokens);
        inner.report_load();
        drop(inner);
        if let Some(sequence) = to_blame {
            tracing::error!(
                reason,
                "a request made the model fail twice, and ends alone"
            );
            sequence
                .output
                .lock()
                .fail(Failure::Model(reason.to_owned()));
        }
    }

    /// The model has failed for good: all requests end with `reason`, and no more are taken on.
    pub(super) fn fail(&self, reason: &str) {
        let mut inner = self.lock();
        self.set_state(&inner, State::Failed(reason.to_owned()));
        inner.ended = true;
        inner.changes.clear();
        let left = inner.drain();
        drop(inner);
        self.wake();
        end_all(left, &Failure::Model(reason.to_owned()));
    }

    /// Ends what is left of the requests, because the engine closes.
    pub(super) fn abort_remaining(&self) {
        let left = self.lock().drain();
        end_all(left, &Failure::ShuttingDown);
    }

    /// The worker is done.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        inner.changes.clear();
        self.wake();
    }

    /// Changes the state. `inner` is asked for because it must be locked.
    fn set_state(&self, _locked: &Inner, state: State) {
        metrics::ready(state == State::Ready);
        self.state.send_replace(state);
    }
}

fn end_all(sequences: Vec<Sequence>, failure: &Failure) {
    for sequence in sequences {
        sequence.output.lock().fail(failure.clone());
    }
}
