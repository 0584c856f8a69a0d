//! What is taken on, and what is refused.

use std::time::Duration;

use tokio::sync::watch;

use paligemma_server::engine::{Failure, MaxTokens, Request, State, SubmitError};

use crate::engine::bench::{Bench, CONTEXT, answer, request, state_after};
use paligemma_test_support::toy_model::{IMAGE_TOKENS, PATIENCE};

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_says_when_to_come_back() {
    let bench = Bench::start(1, 1).await;
    bench.control.hold();
    let _running = bench.submit("one", 5);
    let _waiting = bench.submit("two", 5);
    let refused = bench.engine.submit(request("three", 5)).unwrap_err();
    let expected = SubmitError::QueueFull {
        queue: 1,
        retry_after: Duration::from_secs(1),
    };
    assert_eq!(refused, expected);
    bench.control.open();
}

#[tokio::test]
async fn several_requests_are_accepted_all_or_none() {
    let bench = Bench::start(1, 2).await;
    bench.control.hold();
    let first = bench.submit("first", 5);
    let three = || ["a", "b", "c"].map(|prompt| request(prompt, 5)).to_vec();
    let refused = bench.engine.submit_all(three()).unwrap_err();
    assert!(
        matches!(refused, SubmitError::QueueFull { .. }),
        "{refused}"
    );
    bench.control.open();
    answer(first).await.summary();
    for generation in bench.engine.submit_all(three()).unwrap() {
        answer(generation).await.summary();
    }
    let prompts = ["first", "a", "b", "c"].map(|prompt| bench.prompt(prompt));
    assert_eq!(bench.control.prompts(), prompts);
}

#[tokio::test]
async fn concurrent_submissions_of_several_requests_never_share_the_last_places() {
    let bench = Bench::start(2, 4).await;
    bench.control.hold();
    let submitters: Vec<_> = (0..8)
        .map(|_| {
            let engine = bench.engine.clone();
            let three = ["a", "b", "c"].map(|prompt| request(prompt, 2)).to_vec();
            std::thread::spawn(move || engine.submit_all(three).ok())
        })
        .collect();
    let taken: Vec<_> = submitters
        .into_iter()
        .filter_map(|submitter| submitter.join().unwrap())
        .collect();
    bench.control.open();
    // Six fit: two times three, whoever came first.
    assert_eq!(taken.len(), 2);
    for generation in taken.into_iter().flatten() {
        answer(generation).await.summary();
    }
}

#[tokio::test]
async fn more_requests_at_once_than_can_ever_fit_are_not_asked_to_come_back() {
    let bench = Bench::start(2, 3).await;
    let six = vec![request("prompt", 5); 6];
    let expected = SubmitError::TooMany {
        requests: 6,
        allowed: 5,
    };
    assert_eq!(bench.engine.submit_all(six).unwrap_err(), expected);
}

#[tokio::test]
async fn max_tokens_that_do_not_fit_the_context_are_refused_with_the_numbers() {
    let bench = Bench::start(1, 1).await;
    let prompt_tokens = bench.prompt("caption").len();
    let allowed = CONTEXT - IMAGE_TOKENS - prompt_tokens;
    for max_tokens in [0, allowed + 1] {
        let refused = bench.engine.submit(request("caption", max_tokens));
        let expected = SubmitError::MaxTokens {
            max_tokens,
            allowed,
        };
        assert_eq!(refused.unwrap_err(), expected);
    }
    let fits = answer(bench.submit("caption", allowed)).await;
    assert_eq!(fits.summary().usage.completion_tokens, allowed);
    for (most, expected) in [(allowed + 1, allowed), (2, 2)] {
        let shortened = Request {
            max_tokens: MaxTokens::AtMost(most),
            ..request("caption", 0)
        };
        let shortened = answer(bench.engine.submit(shortened).unwrap()).await;
        assert_eq!(shortened.summary().usage.completion_tokens, expected);
    }
    let long = "long ".repeat(CONTEXT);
    let refused = bench.engine.submit(request(&long, 1)).unwrap_err();
    assert!(matches!(
        refused,
        SubmitError::PromptTooLong { prompt_tokens, image_tokens: IMAGE_TOKENS, context: CONTEXT }
            if prompt_tokens > CONTEXT
    ));
}

#[tokio::test]
async fn a_shutdown_finishes_accepted_requests() {
    let bench = Bench::start(1, 1).await;
    bench.control.hold();
    let running = bench.submit("runs", 5);
    let waiting = bench.submit("waits", 5);
    let engine = bench.engine.clone();
    let grace = Duration::from_secs(60);
    let shutdown = tokio::spawn(async move { engine.shutdown(grace).await });
    assert_eq!(
        state_after(&bench.engine, State::Ready).await,
        State::Draining
    );
    let refused = bench.engine.submit(request("late", 5)).unwrap_err();
    assert_eq!(refused, SubmitError::Draining);
    bench.control.open();
    answer(running).await.summary();
    answer(waiting).await.summary();
    shutdown.await.unwrap();
    assert_eq!(bench.engine.state(), State::Draining);
}

#[tokio::test]
async fn after_its_grace_a_shutdown_fails_the_remaining_requests() {
    let bench = Bench::start(1, 1).await;
    bench.control.hold();
    let running = bench.submit("runs", 100);
    bench.control.next_work();
    let waiting = bench.submit("waits", 100);
    let engine = bench.engine.clone();
    let shutdown = tokio::spawn(async move { engine.shutdown(Duration::ZERO).await });
    assert_eq!(
        state_after(&bench.engine, State::Ready).await,
        State::Draining
    );
    bench.control.open();
    assert_eq!(answer(running).await.end, Err(Failure::ShuttingDown));
    assert_eq!(answer(waiting).await.end, Err(Failure::ShuttingDown));
    shutdown.await.unwrap();
}

#[tokio::test]
async fn an_idle_engine_shuts_down_at_once() {
    let bench = Bench::start(1, 1).await;
    bench.engine.shutdown(Duration::from_secs(3600)).await;
}

#[tokio::test]
async fn answers_are_finished_after_the_last_handle_is_gone() {
    let bench = Bench::start(1, 1).await;
    bench.control.hold();
    let generation = bench.submit("prompt", 5);
    let control = bench.control.clone();
    drop(bench);
    control.open();
    assert_eq!(
        answer(generation).await.summary().usage.completion_tokens,
        5
    );
}

#[tokio::test]
async fn whoever_waits_is_told_its_place() {
    let bench = Bench::start(1, 3).await;
    bench.control.hold();
    let running = bench.submit("one", 5);
    let [left, next, last] = ["two", "three", "four"].map(|prompt| bench.submit(prompt, 5));
    let places = [&running, &left, &next, &last].map(|each| *each.watch_place().borrow());
    assert_eq!(places, [0, 1, 2, 3]);
    let mut place = last.watch_place();
    drop(left);
    place_of(&mut place, 2).await;
    bench.control.open();
    answer(running).await.summary();
    answer(next).await.summary();
    place_of(&mut place, 0).await;
    answer(last).await.summary();
}

/// Waits until the place is `expected`.
async fn place_of(place: &mut watch::Receiver<usize>, expected: usize) {
    let reached = place.wait_for(|place| *place == expected);
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    reached.expect("the place changes").unwrap();
}
