//! Dropping a generation, and deadlines, wherever the request stands.

use std::time::{Duration, Instant};

use paligemma_server::engine::{Failure, Generation};

use crate::engine::bench::{Bench, answer, next, request};
use paligemma_test_support::toy_model::{Fault, Work};

fn is_encode(work: &Work) -> bool {
    matches!(work, Work::Encode { .. })
}

fn is_prefill(work: &Work) -> bool {
    matches!(work, Work::Step { prefill, .. } if !prefill.is_empty())
}

fn is_decode(work: &Work) -> bool {
    matches!(work, Work::Step { decode, .. } if !decode.is_empty())
}

fn step(decode: &[usize], prefill: &[usize]) -> Work {
    Work::Step {
        decode: decode.to_vec(),
        prefill: prefill.to_vec(),
    }
}

/// What the answer is without any company.
async fn alone(prompt: &str, max_tokens: usize) -> String {
    let bench = Bench::start(1, 0).await;
    answer(bench.submit(prompt, max_tokens)).await.text
}

/// One request in the only slot, stopped before work of some kind, and another that waits.
async fn stopped_before(stage: fn(&Work) -> bool) -> (Bench, Generation, Generation) {
    let bench = Bench::start(1, 1).await;
    bench.control.hold();
    let first = bench.submit("first", 50);
    bench.control.run_until(stage);
    let second = bench.submit("second", 2);
    (bench, first, second)
}

/// After the work that is under way, the next thing is the waiting request's first.
async fn the_slot_is_free_after_one_step(stage: fn(&Work) -> bool) {
    let (bench, first, second) = stopped_before(stage).await;
    drop(first);
    bench.control.allow_one();
    assert_eq!(bench.control.next_work(), Work::Encode { images: 1 });
    bench.control.open();
    assert_eq!(answer(second).await.summary().usage.completion_tokens, 2);
}

#[tokio::test]
async fn a_cancelled_prefill_does_not_spoil_the_next_request() {
    let (bench, first, second) = stopped_before(is_prefill).await;
    // The toy spoils the slot until it is cleared.
    bench.control.fail(Fault::NanInSlot(0));
    drop(first);
    bench.control.open();
    assert_eq!(answer(second).await.summary().usage.completion_tokens, 2);
}

#[tokio::test]
async fn a_request_cancelled_in_the_vision_tower_frees_its_slot_within_one_step() {
    the_slot_is_free_after_one_step(is_encode).await;
}

#[tokio::test]
async fn a_request_cancelled_in_prefill_frees_its_slot_within_one_step() {
    the_slot_is_free_after_one_step(is_prefill).await;
}

#[tokio::test]
async fn a_request_cancelled_while_it_decodes_frees_its_slot_within_one_step() {
    the_slot_is_free_after_one_step(is_decode).await;
}

#[tokio::test]
async fn a_request_cancelled_in_the_queue_makes_room_at_once_and_is_never_worked_on() {
    let (bench, first, second) = stopped_before(is_encode).await;
    bench.engine.submit(request("no room", 2)).unwrap_err();
    drop(second);
    let third = bench.submit("third", 2);
    bench.control.open();
    answer(first).await.summary();
    answer(third).await.summary();
    let worked_on = ["first", "third"].map(|prompt| bench.prompt(prompt));
    assert_eq!(bench.control.prompts(), worked_on);
}

#[tokio::test]
async fn a_member_cancelled_within_a_wave_leaves_its_slot_to_others_only_after_the_wave() {
    let bench = Bench::start(2, 1).await;
    bench.control.hold();
    let mut pair = bench
        .engine
        .submit_all(vec![request("one", 9), request("two", 9)])
        .unwrap();
    bench.control.run_until(is_prefill);
    drop(pair.remove(0));
    let third = bench.submit("three", 9);
    bench.control.allow_one();
    let beside_the_wave = bench.control.next_work();
    assert_eq!(beside_the_wave, step(&[], &[0, 1]));
    bench.control.allow_one();
    // The wave is over: the other member decodes, and the third's image is encoded meanwhile.
    bench.control.run_until(is_encode);
    bench.control.allow_one();
    assert_eq!(bench.control.next_work(), step(&[1], &[]));
    bench.control.open();
    assert_eq!(answer(pair.remove(0)).await.text, alone("two", 9).await);
    assert_eq!(answer(third).await.text, alone("three", 9).await);
}

#[tokio::test]
async fn a_stream_dropped_in_its_middle_lets_others_go_on_unharmed() {
    let bench = Bench::start(2, 0).await;
    let mut dropped = bench.submit("dropped", 100);
    let stays = bench.submit("stays", 20);
    next(&mut dropped).await;
    drop(dropped);
    assert_eq!(answer(stays).await.text, alone("stays", 20).await);
}

#[tokio::test]
async fn a_deadline_ends_a_request_in_the_queue_and_in_the_model() {
    let bench = Bench::start(1, 1).await;
    bench.control.hold();
    let soon = Instant::now() + Duration::from_millis(50);
    let with_deadline = |prompt: &str| {
        let mut request = request(prompt, 50);
        request.deadline = Some(soon);
        bench.engine.submit(request).unwrap()
    };
    let running = with_deadline("runs");
    bench.control.run_until(is_prefill);
    let waiting = with_deadline("waits");
    tokio::time::sleep_until(soon.into()).await;
    bench.control.open();
    assert_eq!(answer(running).await.end, Err(Failure::DeadlineExceeded));
    assert_eq!(answer(waiting).await.end, Err(Failure::DeadlineExceeded));
    assert_eq!(bench.control.prompts(), [bench.prompt("runs")]);
    answer(bench.submit("the slot is free again", 2))
        .await
        .summary();
}

#[tokio::test]
async fn a_deadline_ends_a_request_that_decodes_after_what_it_has_streamed() {
    let bench = Bench::start(1, 0).await;
    bench.control.hold();
    let soon = Instant::now() + Duration::from_millis(100);
    let mut request = request("prompt", 50);
    request.deadline = Some(soon);
    let generation = bench.engine.submit(request).unwrap();
    bench.control.run_until(is_decode);
    tokio::time::sleep_until(soon.into()).await;
    bench.control.open();
    let answered = answer(generation).await;
    assert_eq!(answered.end, Err(Failure::DeadlineExceeded));
    assert!(!answered.text.is_empty());
}
