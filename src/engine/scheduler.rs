//! Who works on the model next: a plain data structure, without tensors, clocks or channels.

use std::collections::VecDeque;

/// A wave may hold so many tokens that it takes about this many steps. Longer waves would use the
/// device a little better and make everyone in them wait for the last.
const STEPS_A_WAVE: usize = 4;

/// What a [`Scheduler`] must not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Sequences that may be in the model at the same time.
    pub slots: usize,
    /// Requests that may wait, beyond those that free slots can take at once.
    pub queue: usize,
    /// Prefix tokens that one step may carry through all layers.
    pub prefill_tokens_per_step: usize,
}

impl Limits {
    pub(super) fn budget(&self) -> crate::models::Budget {
        crate::models::Budget {
            tokens: self.prefill_tokens_per_step,
        }
    }

    /// Prefix tokens that a wave may hold, unless its only request has more.
    fn wave_tokens(&self) -> usize {
        self.prefill_tokens_per_step * STEPS_A_WAVE
    }
}

/// Decides which requests of type `T` enter the model, and what the next step does.
///
/// Requests wait first come, first served, and enter in groups, called waves, whose prefixes are
/// computed together. One wave is under way at a time, and **slots are given out only when none
/// is**: so a slot that is released in the middle of a wave is free at once, and still nobody else
/// gets it while the wave can write to it.
#[derive(Debug)]
pub(super) struct Scheduler<T> {
    limits: Limits,
    queue: VecDeque<Waiting<T>>,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Waiting<T> {
    request: T,
    tokens: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    InWave,
    Decoding,
}

/// What the next step does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan<T> {
    /// Requests that begin a wave now, each with its slot.
    pub start: Vec<(usize, T)>,
    /// A wave is under way (maybe begun now) and advances.
    pub wave: bool,
    /// Slots whose sequences get one more token, in ascending order.
    pub decode: Vec<usize>,
}

/// There was no room in the queue for all requests of a submission.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QueueFull;

impl<T> Scheduler<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            slots: vec![Slot::Free; limits.slots],
        }
    }

    /// Requests that wait.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Slots that hold a sequence.
    pub(super) fn slots_used(&self) -> usize {
        self.slots.len() - self.slots_in(Slot::Free).count()
    }

    /// Queues all of `requests`, each with its number of prefix tokens, or none of them. The
    /// iterator is not run when they are refused.
    ///
    /// # Errors
    /// When more would wait than the queue and the free slots can take.
    pub(super) fn submit<I>(&mut self, requests: I) -> Result<(), QueueFull>
    where
        I: ExactSizeIterator<Item = (T, usize)>,
    {
        let room = self.limits.queue + self.slots_in(Slot::Free).count();
        if self.queue.len() + requests.len() > room {
            return Err(QueueFull);
        }
        let waiting = |(request, tokens)| Waiting { request, tokens };
        self.queue.extend(requests.map(waiting));
        Ok(())
    }

    /// Takes every waiting request out of the queue for which `gone` says so.
    pub(super) fn withdraw(&mut self, mut gone: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut withdrawn = Vec::new();
        for waiting in std::mem::take(&mut self.queue) {
            if gone(&waiting.request) {
                withdrawn.push(waiting.request);
            } else {
                self.queue.push_back(waiting);
            }
        }
        withdrawn
    }

    /// Frees a slot whose sequence ended or was given up, in a wave or decoding.
    pub(super) fn release(&mut self, slot: usize) {
        self.slots[slot] = Slot::Free;
    }

    /// The wave's prefixes are computed: its requests decode from now on.
    pub(super) fn finish_wave(&mut self) {
        for slot in &mut self.slots {
            if *slot == Slot::InWave {
                *slot = Slot::Decoding;
            }
        }
    }

    /// Says what the next step does; `None` when there is nothing to do.
    pub(super) fn plan(&mut self) -> Option<Plan<T>> {
        let under_way = self.slots_in(Slot::InWave).next().is_some();
        let start = if under_way {
            Vec::new()
        } else {
            self.start_wave()
        };
        let plan = Plan {
            wave: under_way || !start.is_empty(),
            start,
            decode: self.slots_in(Slot::Decoding).collect(),
        };
        (plan.wave || !plan.decode.is_empty()).then_some(plan)
    }

    /// Gives free slots, lowest first, to the requests that wait longest, within a wave's budget.
    fn start_wave(&mut self) -> Vec<(usize, T)> {
        let free: Vec<usize> = self.slots_in(Slot::Free).collect();
        let mut started = Vec::new();
        let mut tokens = 0;
        for slot in free {
            let Some(next) = self.queue.front() else {
                break;
            };
            tokens += next.tokens;
            if !started.is_empty() && tokens > self.limits.wave_tokens() {
                break;
            }
            let Some(waiting) = self.queue.pop_front() else {
                break;
            };
            self.slots[slot] = Slot::InWave;
            started.push((slot, waiting.request));
        }
        started
    }

    fn slots_in(&self, state: Slot) -> impl Iterator<Item = usize> {
        let states = self.slots.iter().enumerate();
        states
            .filter(move |(_, slot)| **slot == state)
            .map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests;
