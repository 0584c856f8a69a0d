use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

fn scheduler(slots: usize, queue: usize, prefill_batch_tokens: usize) -> Scheduler<u32> {
    Scheduler::new(Limits {
        slots,
        queue,
        prefill_batch_tokens,
    })
}

fn submit(scheduler: &mut Scheduler<u32>, requests: &[(u32, usize)]) -> Result<(), QueueFull> {
    scheduler.submit(requests.iter().copied())
}

/// The plan of a step: who starts where, whether a prefill is under way, and who decodes.
fn plan(scheduler: &mut Scheduler<u32>) -> (Vec<(usize, u32)>, bool, Vec<usize>) {
    let plan = scheduler.plan().expect("there is something to do");
    let start = started(scheduler, &plan);
    (start, !plan.prefill.is_empty(), plan.decode)
}

fn started(scheduler: &mut Scheduler<u32>, plan: &Plan) -> Vec<(usize, u32)> {
    let start = plan.start.iter();
    start
        .map(|&slot| (slot, *scheduler.get_mut(slot).unwrap()))
        .collect()
}

#[test]
fn nothing_to_do_is_said_so() {
    assert_eq!(scheduler(2, 2, 40).plan(), None);
}

#[test]
fn requests_join_those_that_decode_in_the_lowest_free_slots() {
    let mut scheduler = scheduler(4, 4, 40);
    submit(&mut scheduler, &[(1, 10), (2, 10), (3, 10)]).unwrap();
    let all = vec![(0, 1), (1, 2), (2, 3)];
    assert_eq!(plan(&mut scheduler), (all, true, vec![]));
    scheduler.finish_prefill();
    assert_eq!(plan(&mut scheduler), (vec![], false, vec![0, 1, 2]));
    scheduler.release(1);
    submit(&mut scheduler, &[(4, 10), (5, 10), (6, 10)]).unwrap();
    let two = vec![(1, 4), (3, 5)];
    assert_eq!(plan(&mut scheduler), (two, true, vec![0, 2]));
    assert_eq!(plan(&mut scheduler), (vec![], true, vec![0, 2]));
    scheduler.finish_prefill();
    assert_eq!(plan(&mut scheduler), (vec![], false, vec![0, 1, 2, 3]));
}

#[test]
fn a_batch_is_bounded_in_tokens_but_always_holds_one_request() {
    let mut scheduler = scheduler(8, 8, 40);
    submit(&mut scheduler, &[(1, 15), (2, 25), (3, 1), (4, 90), (5, 1)]).unwrap();
    assert_eq!(plan(&mut scheduler).0, [(0, 1), (1, 2)]);
    scheduler.finish_prefill();
    assert_eq!(plan(&mut scheduler).0, [(2, 3)]);
    scheduler.finish_prefill();
    assert_eq!(plan(&mut scheduler).0, [(3, 4)]);
    scheduler.finish_prefill();
    assert_eq!(plan(&mut scheduler).0, [(4, 5)]);
}

#[test]
fn the_queue_takes_what_free_slots_can_take_and_its_own_length() {
    let mut scheduler = scheduler(2, 1, 40);
    submit(&mut scheduler, &[(1, 10), (2, 10), (3, 10)]).unwrap();
    assert_eq!(submit(&mut scheduler, &[(4, 10)]), Err(QueueFull));
    plan(&mut scheduler);
    assert_eq!(submit(&mut scheduler, &[(4, 10)]), Err(QueueFull));
    scheduler.finish_prefill();
    scheduler.release(0);
    submit(&mut scheduler, &[(4, 10)]).unwrap();
}

#[test]
fn several_requests_are_queued_all_or_none() {
    let mut scheduler = scheduler(1, 2, 40);
    submit(&mut scheduler, &[(1, 10), (2, 10)]).unwrap();
    assert_eq!(submit(&mut scheduler, &[(3, 10), (4, 10)]), Err(QueueFull));
    assert_eq!(scheduler.queued(), 2);
    submit(&mut scheduler, &[(3, 10)]).unwrap();
}

#[test]
fn places_count_those_ahead_beyond_what_the_free_slots_take() {
    let mut scheduler = scheduler(2, 4, 40);
    let places = |scheduler: &Scheduler<u32>| -> Vec<(usize, u32)> {
        let places = scheduler.places();
        places.map(|(place, &request)| (place, request)).collect()
    };
    submit(&mut scheduler, &[(1, 10), (2, 10), (3, 10), (4, 10)]).unwrap();
    assert_eq!(places(&scheduler), [(0, 1), (0, 2), (1, 3), (2, 4)]);
    plan(&mut scheduler);
    assert_eq!(places(&scheduler), [(1, 3), (2, 4)]);
    scheduler.release(0);
    // The prefill is under way still, but the slot is there.
    assert_eq!(places(&scheduler), [(0, 3), (1, 4)]);
    scheduler.retire_waiting(|&request| request == 3);
    assert_eq!(places(&scheduler), [(0, 4)]);
}

#[test]
fn a_request_cancelled_in_the_queue_makes_room_at_once() {
    let mut scheduler = scheduler(1, 1, 40);
    submit(&mut scheduler, &[(1, 10), (2, 10)]).unwrap();
    assert_eq!(scheduler.retire_waiting(|&request| request == 1), [1]);
    submit(&mut scheduler, &[(3, 10)]).unwrap();
    assert_eq!(plan(&mut scheduler).0, [(0, 2)]);
}

#[test]
fn a_request_cancelled_while_it_decodes_frees_its_slot_for_the_next_step() {
    let mut scheduler = scheduler(1, 1, 40);
    submit(&mut scheduler, &[(1, 10), (2, 10)]).unwrap();
    plan(&mut scheduler);
    scheduler.finish_prefill();
    scheduler.release(0);
    assert_eq!(plan(&mut scheduler), (vec![(0, 2)], true, vec![]));
}

#[test]
fn a_slot_freed_within_a_prefill_is_given_out_only_after_it() {
    let mut scheduler = scheduler(2, 2, 40);
    submit(&mut scheduler, &[(1, 10), (2, 10), (3, 10)]).unwrap();
    plan(&mut scheduler);
    scheduler.release(0);
    assert_eq!(scheduler.slots_used(), 1);
    assert_eq!(plan(&mut scheduler), (vec![], true, vec![]));
    scheduler.finish_prefill();
    assert_eq!(plan(&mut scheduler), (vec![(0, 3)], true, vec![1]));
}

#[test]
fn a_batch_that_nobody_waits_for_is_dropped_for_the_next() {
    let mut scheduler = scheduler(2, 2, 40);
    submit(&mut scheduler, &[(1, 10), (2, 10), (3, 10)]).unwrap();
    plan(&mut scheduler);
    scheduler.release(0);
    scheduler.release(1);
    assert_eq!(plan(&mut scheduler), (vec![(0, 3)], true, vec![]));
}

/// Runs steps, of which each fails whose prefill has the sequence `bad`, until that is blamed.
/// Returns how many failed.
fn failures_until_blamed(scheduler: &mut Scheduler<u32>, bad: u32) -> usize {
    for failures in 1.. {
        // Steps until one fails: the bad sequence fails each prefill of which it is a part.
        loop {
            let plan = scheduler.plan().unwrap();
            let started = started(scheduler, &plan);
            if started.iter().any(|&(_, sequence)| sequence == bad) {
                break;
            }
            scheduler.finish_prefill();
        }
        if let Some(blamed) = scheduler.recover(|_| 10) {
            assert_eq!(blamed, bad);
            return failures;
        }
    }
    unreachable!()
}

#[test]
fn a_sequence_that_makes_steps_fail_is_found_by_halving() {
    for bad in 0..8 {
        let mut scheduler = scheduler(8, 8, 100);
        let all: Vec<(u32, usize)> = (0..8).map(|sequence| (sequence, 10)).collect();
        submit(&mut scheduler, &all).unwrap();
        let failures = failures_until_blamed(&mut scheduler, bad);
        assert!((4..=5).contains(&failures), "{bad}: {failures}");
        assert_eq!(scheduler.queued() + scheduler.slots_used(), 7);
    }
}

#[test]
fn a_sequence_alone_gets_a_second_try() {
    let mut scheduler = scheduler(2, 2, 100);
    submit(&mut scheduler, &[(1, 10)]).unwrap();
    assert_eq!(failures_until_blamed(&mut scheduler, 1), 2);
    assert!(scheduler.is_empty());
}

#[test]
fn after_a_failure_those_in_prefill_are_tried_before_those_that_decoded() {
    let mut scheduler = scheduler(4, 4, 100);
    submit(&mut scheduler, &[(1, 10), (2, 10)]).unwrap();
    plan(&mut scheduler);
    scheduler.finish_prefill();
    submit(&mut scheduler, &[(3, 10), (4, 10)]).unwrap();
    plan(&mut scheduler);
    assert_eq!(scheduler.recover(|_| 10), None);
    assert_eq!(plan(&mut scheduler), (vec![(0, 3)], true, vec![]));
    scheduler.finish_prefill();
    assert_eq!(plan(&mut scheduler), (vec![(1, 4)], true, vec![0]));
    scheduler.finish_prefill();
    let rest = vec![(2, 1), (3, 2)];
    assert_eq!(plan(&mut scheduler), (rest, true, vec![0, 1]));
}

#[test]
fn after_a_failure_the_new_prefill_counts_what_was_generated() {
    let mut scheduler = scheduler(2, 2, 40);
    submit(&mut scheduler, &[(1, 10), (2, 10)]).unwrap();
    plan(&mut scheduler);
    scheduler.finish_prefill();
    assert_eq!(scheduler.recover(|_| 30), None);
    // 60 tokens would fit one batch of 40 no longer; they are two trials anyway.
    assert_eq!(plan(&mut scheduler), (vec![(0, 1)], true, vec![]));
}

#[test]
fn who_waited_before_a_failure_waits_behind_those_who_were_in_the_model() {
    let mut scheduler = scheduler(1, 3, 100);
    submit(&mut scheduler, &[(1, 10), (2, 10)]).unwrap();
    plan(&mut scheduler);
    assert_eq!(scheduler.recover(|_| 10), None);
    assert_eq!(plan(&mut scheduler), (vec![(0, 1)], true, vec![]));
    assert_eq!(scheduler.queued(), 1);
}

/// What may happen between two steps.
#[derive(Debug, Clone)]
enum Act {
    /// Requests with so many tokens each.
    Submit(Vec<usize>),
    /// Cancels the request that was submitted as the n-th, wherever it is.
    Cancel(usize),
    /// Runs a step. A prefill that is under way is done if the first says so; of those that decode,
    /// each ends whose bit in the second is set.
    Step(bool, u32),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        prop::collection::vec(1..60usize, 1..4).prop_map(Act::Submit),
        (0..40usize).prop_map(Act::Cancel),
        (any::<bool>(), any::<u32>()).prop_map(|(done, ends)| Act::Step(done, ends)),
    ]
}

/// Follows a scheduler as the worker does, and checks every plan.
struct Follower {
    scheduler: Scheduler<u32>,
    limits: Limits,
    tokens: Vec<usize>,
    /// Requests that wait, in the order in which they must start.
    waiting: Vec<u32>,
    /// Who has which slot.
    running: HashMap<usize, u32>,
    /// Slots that the prefill under way may write to, cancelled ones included.
    batch: HashSet<usize>,
    ended: Vec<u32>,
    /// Places in the queue when last looked at.
    places: HashMap<u32, usize>,
}

impl Follower {
    fn new(limits: Limits) -> Self {
        Self {
            scheduler: Scheduler::new(limits),
            limits,
            tokens: Vec::new(),
            waiting: Vec::new(),
            running: HashMap::new(),
            batch: HashSet::new(),
            ended: Vec::new(),
            places: HashMap::new(),
        }
    }

    fn check_places(&mut self) {
        for (place, &request) in self.scheduler.places() {
            let before = self.places.insert(request, place);
            assert!(
                before.is_none_or(|before| place <= before),
                "{request} fell back"
            );
        }
    }

    fn submit(&mut self, tokens: &[usize]) {
        let first = self.tokens.len() as u32;
        let requests: Vec<(u32, usize)> = (first..).zip(tokens.iter().copied()).collect();
        let room = self.limits.queue + self.limits.slots - self.running.len();
        let fits = self.waiting.len() + requests.len() <= room;
        let taken = submit(&mut self.scheduler, &requests);
        assert_eq!(taken.is_ok(), fits);
        if fits {
            self.tokens.extend(tokens);
            self.waiting
                .extend(requests.iter().map(|&(request, _)| request));
        }
    }

    fn cancel(&mut self, request: u32) {
        let withdrawn = self.scheduler.retire_waiting(|&waiting| waiting == request);
        let was_waiting = self.waiting.contains(&request);
        assert_eq!(!withdrawn.is_empty(), was_waiting);
        self.waiting.retain(|&waiting| waiting != request);
        self.ended.extend(withdrawn);
        let slot = self
            .running
            .iter()
            .find(|(_, running)| **running == request);
        if let Some(slot) = slot.map(|(slot, _)| *slot) {
            self.end(slot);
        }
    }

    fn end(&mut self, slot: usize) {
        let before = self.scheduler.slots_used();
        self.scheduler.release(slot);
        assert_eq!(self.scheduler.slots_used(), before - 1);
        self.ended.push(self.running.remove(&slot).unwrap());
    }

    fn step(&mut self, prefill_done: bool, ends: u32) {
        let Some(plan) = self.scheduler.plan() else {
            assert!(self.waiting.is_empty() && self.running.is_empty());
            return;
        };
        let start = started(&mut self.scheduler, &plan);
        let batch_is_wanted = self
            .batch
            .iter()
            .any(|slot| self.running.contains_key(slot));
        if batch_is_wanted {
            assert_eq!(start, [], "one batch at a time");
        } else {
            self.batch.clear();
            self.check_start(&start);
        }
        let mut prefill: Vec<usize> = self.batch.iter().copied().collect();
        prefill.retain(|slot| self.running.contains_key(slot));
        prefill.sort_unstable();
        assert_eq!(plan.prefill, prefill);
        let mut decode: Vec<usize> = self.running.keys().copied().collect();
        decode.retain(|slot| !self.batch.contains(slot));
        decode.sort_unstable();
        assert_eq!(plan.decode, decode, "whoever is not in the batch decodes");
        for slot in plan.decode {
            if ends & (1 << slot) != 0 {
                self.end(slot);
            }
        }
        if prefill_done {
            self.scheduler.finish_prefill();
            self.batch.clear();
        }
    }

    fn check_start(&mut self, start: &[(usize, u32)]) {
        let mut tokens = 0;
        for &(slot, request) in start {
            assert_eq!(self.waiting.remove(0), request, "first come, first served");
            assert_eq!(
                self.running.insert(slot, request),
                None,
                "a slot given twice"
            );
            self.batch.insert(slot);
            tokens += self.tokens[request as usize];
        }
        let budget = self.limits.prefill_batch_tokens;
        assert!(
            start.len() <= 1 || tokens <= budget,
            "a batch of {tokens} tokens"
        );
        let slots_left = self.running.len() < self.limits.slots;
        if let (true, Some(&next)) = (slots_left, self.waiting.first()) {
            let with_next = tokens + self.tokens[next as usize];
            assert!(
                !start.is_empty() && with_next > budget,
                "{next} could start"
            );
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_plans_are_sound_and_every_request_ends_exactly_once(
        slots in 1..6usize,
        queue in 0..6usize,
        prefill_batch_tokens in 1..120usize,
        acts in prop::collection::vec(act(), 0..120),
    ) {
        let limits = Limits { slots, queue, prefill_batch_tokens };
        let mut follower = Follower::new(limits);
        for act in acts {
            match act {
                Act::Submit(tokens) => follower.submit(&tokens),
                Act::Cancel(request) => follower.cancel(request as u32),
                Act::Step(prefill_done, ends) => follower.step(prefill_done, ends),
            }
            follower.check_places();
            prop_assert_eq!(follower.scheduler.queued(), follower.waiting.len());
            prop_assert_eq!(follower.scheduler.slots_used(), follower.running.len());
        }
        // No request starves: left alone, each step ends a prefill or an answer, until none is left.
        let mut steps = 0;
        while !follower.waiting.is_empty() || !follower.running.is_empty() {
            follower.step(true, u32::MAX);
            steps += 1;
            prop_assert!(steps <= 2 * follower.tokens.len());
        }
        prop_assert_eq!(follower.scheduler.plan(), None);
        let mut ended = follower.ended.clone();
        ended.sort_unstable();
        let all: Vec<u32> = (0..follower.tokens.len() as u32).collect();
        prop_assert_eq!(ended, all);
    }
}
