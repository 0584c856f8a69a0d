//! What the handle and the worker share.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::State;
use super::answer::Answer;
use super::pace::Pace;
use super::scheduler::{Limits, Scheduler};
use crate::telemetry::metrics;

/// The desk at which requests are handed over, the bell on it, and the sign above it.
pub(super) struct Shared {
    desk: Mutex<Desk>,
    bell: Condvar,
    /// Changes only while the desk is locked, so that no request slips in after a last look.
    state: watch::Sender<State>,
}

/// Locked for moments only, never while the model works.
pub(super) struct Desk {
    pub scheduler: Scheduler<Answer>,
    pub pace: Pace,
    /// No more requests come: the worker ends when all are answered.
    pub closing: bool,
    /// When the requests that are left end with an error.
    pub close_at: Option<Instant>,
}

impl Desk {
    /// Ends every answer in the queue that is no longer wanted, or too late.
    pub(super) fn withdraw_ended(&mut self, now: Instant) {
        for answer in self.scheduler.withdraw(|answer| answer.is_over(now)) {
            answer.give_up();
        }
    }

    /// Whether what is left must end now.
    pub(super) fn is_past_closing(&self, now: Instant) -> bool {
        self.close_at.is_some_and(|close_at| close_at <= now)
    }

    /// Brings the gauges of the load up to date.
    pub(super) fn report_load(&self) {
        metrics::load(self.scheduler.queued(), self.scheduler.slots_used());
    }
}

impl Shared {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            desk: Mutex::new(Desk {
                scheduler: Scheduler::new(limits),
                pace: Pace::default(),
                closing: false,
                close_at: None,
            }),
            bell: Condvar::new(),
            state: watch::Sender::new(State::Loading),
        }
    }

    /// A panic while the desk was locked leaves nothing half done in it, so its poison is ignored.
    pub(super) fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the worker.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits for [`Self::ring`].
    pub(super) fn wait<'a>(&self, desk: MutexGuard<'a, Desk>) -> MutexGuard<'a, Desk> {
        self.bell.wait(desk).unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// The model is loaded: requests are taken on, unless the engine is closing already.
    pub(super) fn open(&self) {
        let desk = self.lock();
        if !desk.closing {
            self.set_state(&desk, State::Ready);
        }
    }

    /// Takes on no more requests, and lets what is left end at `close_at`. Returns the state before.
    pub(super) fn close(&self, close_at: Option<Instant>) -> State {
        let mut desk = self.lock();
        desk.closing = true;
        desk.close_at = [desk.close_at, close_at].into_iter().flatten().min();
        let was = self.state();
        if matches!(was, State::Loading | State::Ready) {
            self.set_state(&desk, State::Draining);
        }
        self.bell.notify_one();
        was
    }

    /// The model has failed: no more requests are taken on. Returns those that waited.
    pub(super) fn fail(&self, reason: &str) -> Vec<Answer> {
        let mut desk = self.lock();
        self.set_state(&desk, State::Failed(reason.to_owned()));
        let waiting = desk.scheduler.withdraw(|_| true);
        desk.report_load();
        waiting
    }

    /// Changes the state. The desk is asked for because it must be locked.
    fn set_state(&self, _locked: &Desk, state: State) {
        metrics::ready(state == State::Ready);
        self.state.send_replace(state);
    }
}
