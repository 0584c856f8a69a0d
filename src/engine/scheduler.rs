//! Who works on the model next: a plain data structure, without tensors, clocks or channels.

use std::collections::VecDeque;

/// A sequence that was part of this many failed steps, and alone in the last, is to blame itself.
const FAILURES_TO_BLAME: u32 = 2;

/// What a [`Scheduler`] must not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sequences that may be in the model at the same time.
    pub slots: usize,
    /// Sequences that may wait, beyond those that free slots can take at once.
    pub queue: usize,
    /// Prefix tokens that a prefill batch may hold, unless its only sequence has more.
    pub prefill_batch_tokens: usize,
}

/// Owns all sequences of type `T`, waiting or by slot, and decides what the next step does.
///
/// Sequences wait first come, first served, and enter the model in prefill batches, whose prefixes
/// are computed together. One batch is under way at a time, and **slots are given out only when
/// none is**: so a slot that is released in the middle of a prefill is free at once, and still
/// nobody else gets it while that prefill can write to it.
///
/// After a failed step [`Self::recover`] puts all sequences that were in the model back into the
/// queue, in groups that are tried one after the other. So a sequence that makes steps fail is
/// soon alone, and the others go on.
#[derive(Debug)]
pub struct Scheduler<T> {
    limits: Limits,
    queue: VecDeque<Entry<T>>,
    slots: Vec<Option<Running<T>>>,
    /// Sequences that were ever submitted: the number of the next one.
    arrivals: u64,
    /// Groups that were ever formed after failures.
    trials: u32,
}

#[derive(Debug)]
struct Entry<T> {
    sequence: T,
    /// Rows of its prefill.
    tokens: usize,
    arrival: u64,
    /// Failed steps of which it was a part.
    failures: u32,
    /// The group in which it is tried after a failure. Groups don't share a prefill batch.
    trial: Option<u32>,
}

#[derive(Debug)]
struct Running<T> {
    entry: Entry<T>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// In the vision tower or the decoder, before its first token since it entered the model.
    Prefill,
    Decode,
}

/// What the next step does.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Slots whose sequences begin a prefill batch now.
    pub start: Vec<usize>,
    /// Slots of the prefill batch that is under way (maybe begun now), in ascending order.
    pub prefill: Vec<usize>,
    /// Slots whose sequences get one more token, in ascending order.
    pub decode: Vec<usize>,
}

/// There was no room in the queue for all sequences of a submission.
#[derive(Debug, PartialEq, Eq)]
pub struct QueueFull;

impl<T> Scheduler<T> {
    /// Nothing waits and all slots are free.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            slots: (0..limits.slots).map(|_| None).collect(),
            arrivals: 0,
            trials: 0,
        }
    }

    /// Sequences that wait.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Sequences that wait, first to last, with their places in the line for a slot: 0 for those that
    /// the free slots can take, then 1, 2, …
    pub fn places(&self) -> impl Iterator<Item = (usize, &T)> {
        let free = self.limits.slots - self.slots_used();
        let waiting = self.queue.iter().enumerate();
        waiting.map(move |(index, entry)| ((index + 1).saturating_sub(free), &entry.sequence))
    }

    /// The sequences that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.queue.iter().map(|entry| &entry.sequence)
    }

    /// The sequences in slots.
    pub fn running(&self) -> impl Iterator<Item = &T> {
        let running = self.slots.iter().flatten();
        running.map(|running| &running.entry.sequence)
    }

    /// Slots that hold a sequence.
    pub fn slots_used(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Nothing waits, and no slot holds a sequence.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.slots_used() == 0
    }

    /// Sequences that may be submitted now.
    pub fn room(&self) -> usize {
        let free = self.limits.slots - self.slots_used();
        (self.limits.queue + free).saturating_sub(self.queue.len())
    }

    /// Queues all of `sequences`, each with the number of its prefix tokens, or none of them. The
    /// iterator is not run when they are refused.
    ///
    /// # Errors
    /// When more would wait than the queue and the free slots can take.
    pub fn submit<I>(&mut self, sequences: I) -> Result<(), QueueFull>
    where
        I: ExactSizeIterator<Item = (T, usize)>,
    {
        if sequences.len() > self.room() {
            return Err(QueueFull);
        }
        for (sequence, tokens) in sequences {
            self.queue.push_back(Entry {
                sequence,
                tokens,
                arrival: self.arrivals,
                failures: 0,
                trial: None,
            });
            self.arrivals += 1;
        }
        Ok(())
    }

    /// Takes out of the queue every sequence for which `over` holds.
    pub fn retire_waiting(&mut self, mut over: impl FnMut(&T) -> bool) -> Vec<T> {
        if !self.queue.iter().any(|entry| over(&entry.sequence)) {
            return Vec::new();
        }
        let mut retired = Vec::new();
        for entry in std::mem::take(&mut self.queue) {
            match over(&entry.sequence) {
                true => retired.push(entry.sequence),
                false => self.queue.push_back(entry),
            }
        }
        retired
    }

    /// Takes out of the slots every sequence for which `over` holds.
    pub fn retire_running(&mut self, mut over: impl FnMut(&T) -> bool) -> Vec<T> {
        let slots = self.slots.iter_mut();
        slots
            .filter_map(|slot| slot.take_if(|running| over(&running.entry.sequence)))
            .map(|running| running.entry.sequence)
            .collect()
    }

    /// The sequence in `slot`; `None` when the slot is free.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        let running = self.slots[slot].as_mut()?;
        Some(&mut running.entry.sequence)
    }

    /// Frees a slot, whatever its sequence was doing.
    pub fn release(&mut self, slot: usize) -> Option<T> {
        let running = self.slots[slot].take()?;
        Some(running.entry.sequence)
    }

    /// The prefill batch is done: its sequences decode from now on.
    pub fn finish_prefill(&mut self) {
        for running in self.slots.iter_mut().flatten() {
            running.phase = Phase::Decode;
        }
    }

    /// Decides what the next step does; `None` when there is nothing to do.
    pub fn plan(&mut self) -> Option<Plan> {
        let under_way = self.slots_in(Phase::Prefill).next().is_some();
        let plan = Plan {
            start: match under_way {
                true => Vec::new(),
                false => self.start_batch(),
            },
            prefill: self.slots_in(Phase::Prefill).collect(),
            decode: self.slots_in(Phase::Decode).collect(),
        };
        (!plan.prefill.is_empty() || !plan.decode.is_empty()).then_some(plan)
    }

    /// Gives free slots, lowest first, to the sequences that wait longest, within a batch's tokens
    /// and one trial.
    fn start_batch(&mut self) -> Vec<usize> {
        let mut started = Vec::new();
        let mut tokens = 0;
        let trial = self.queue.front().and_then(|next| next.trial);
        for (slot, place) in self.slots.iter_mut().enumerate() {
            if place.is_some() {
                continue;
            }
            let fits = |next: &mut Entry<T>| {
                let room = tokens + next.tokens <= self.limits.prefill_batch_tokens;
                next.trial == trial && (room || started.is_empty())
            };
            let Some(entry) = self.queue.pop_front_if(fits) else {
                break;
            };
            tokens += entry.tokens;
            let phase = Phase::Prefill;
            *place = Some(Running { entry, phase });
            started.push(slot);
        }
        started
    }

    /// A step failed, and the model has lost all that it held: every sequence in a slot goes back to
    /// the front of the queue, to be prefilled again, `tokens` telling the rows of its new prefill.
    ///
    /// Those in a prefill, which no step has shown to be harmless yet, are tried first, one half
    /// before the other, and then those that decoded; when all of them decoded, these are halved.
    /// Returns the sequence that is to blame, once it is sure which: it is not queued again.
    pub fn recover(&mut self, tokens: impl Fn(&T) -> usize) -> Option<T> {
        let mut failed: Vec<Running<T>> = self.slots.iter_mut().filter_map(Option::take).collect();
        for Running { entry, .. } in &mut failed {
            entry.failures += 1;
            entry.tokens = tokens(&entry.sequence);
        }
        if let [only] = failed.as_slice()
            && only.entry.failures >= FAILURES_TO_BLAME
        {
            return failed.pop().map(|running| running.entry.sequence);
        }
        failed.sort_by_key(|running| (running.phase != Phase::Prefill, running.entry.arrival));
        let in_prefill = failed.partition_point(|running| running.phase == Phase::Prefill);
        let halved = match in_prefill {
            0 => failed.len(),
            some => some,
        };
        for (index, running) in failed.into_iter().enumerate().rev() {
            let group = match index {
                _ if index < halved.div_ceil(2) => 0,
                _ if index < halved => 1,
                _ => 2,
            };
            let trial = Some(self.trials + group);
            self.queue.push_front(Entry {
                trial,
                ..running.entry
            });
        }
        self.trials += 3;
        None
    }

    fn slots_in(&self, phase: Phase) -> impl Iterator<Item = usize> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(move |(index, slot)| (slot.as_ref()?.phase == phase).then_some(index))
    }
}

#[cfg(test)]
mod tests;
