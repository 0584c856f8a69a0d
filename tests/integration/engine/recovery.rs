//! A step that fails costs a model, and no client a token.

use std::time::{Duration, Instant};

use paligemma_server::engine::{
    EngineOptions, Event, Failure, Generation, Request, Sampling, State, SubmitError,
};

use crate::engine::bench::{Answered, Bench, OPTIONS, answer, next, request, state_after};
use paligemma_test_support::toy_model::{Fault, PATIENCE};

async fn bench(slots: usize, model_restarts: usize) -> Bench {
    Bench::start_with(EngineOptions {
        slots,
        queue: 20,
        model_restarts,
        ..OPTIONS
    })
    .await
}

const PROMPTS: [&str; 4] = ["a", "b c", "d", "e f g"];

fn requests() -> Vec<Request> {
    PROMPTS.map(|prompt| request(prompt, 20)).to_vec()
}

/// What the same requests get from a model that never fails.
async fn undisturbed() -> Vec<Answered> {
    all(bench(2, 0).await.engine.submit_all(requests()).unwrap()).await
}

async fn all(generations: Vec<Generation>) -> Vec<Answered> {
    let mut answers = Vec::new();
    for generation in generations {
        answers.push(answer(generation).await);
    }
    answers
}

/// The first so many deltas of a stream.
async fn deltas(generation: &mut Generation, count: usize) -> String {
    let mut text = String::new();
    for _ in 0..count {
        match next(generation).await {
            Some(Event::Delta { text: piece, .. }) => text += &piece,
            other => panic!("{other:?}"),
        }
    }
    text
}

async fn streams_go_on_after(fault: Fault) {
    let expected = undisturbed().await;
    let bench = bench(2, 3).await;
    bench.control.hold();
    let mut generations = bench.engine.submit_all(requests()).unwrap();
    // The first two stream, the others wait.
    let begun = {
        let control = bench.control.clone();
        let feeder = std::thread::spawn(move || {
            for _ in 0..12 {
                control.next_work();
                control.allow_one();
            }
        });
        let begun = deltas(&mut generations[0], 2).await;
        feeder.join().unwrap();
        begun
    };
    bench.control.fail_times(fault, 1);
    bench.control.open();
    let answers = all(generations).await;
    assert_eq!(bench.control.builds(), 2);
    assert_eq!(bench.engine.state(), State::Ready);
    for (index, (ours, expected)) in answers.iter().zip(&expected).enumerate() {
        let text = match index {
            0 => format!("{begun}{}", ours.text),
            _ => ours.text.clone(),
        };
        assert_eq!(text, expected.text, "no token is lost or repeated");
        assert_eq!(ours.summary().usage, expected.summary().usage);
    }
}

#[tokio::test]
async fn after_a_panic_streams_continue_without_a_lost_or_repeated_token() {
    streams_go_on_after(Fault::Panic).await;
}

#[tokio::test]
async fn after_an_error_streams_continue_without_a_lost_or_repeated_token() {
    streams_go_on_after(Fault::Error).await;
}

#[tokio::test]
async fn a_seeded_sample_continues_as_if_nothing_had_happened() {
    let sampled = || Request {
        sampling: Sampling {
            temperature: 1.0,
            seed: Some(7),
            ..Sampling::greedy()
        },
        ..request("sampled", 30)
    };
    let expected = answer(bench(1, 0).await.engine.submit(sampled()).unwrap()).await;
    let bench = bench(1, 3).await;
    let mut generation = bench.engine.submit(sampled()).unwrap();
    let begun = deltas(&mut generation, 3).await;
    bench.control.fail_times(Fault::Error, 1);
    let rest = answer(generation).await;
    assert_eq!(format!("{begun}{}", rest.text), expected.text);
}

#[tokio::test]
async fn while_the_model_is_rebuilt_new_requests_are_refused_and_old_ones_wait() {
    let bench = bench(1, 3).await;
    bench.control.hold_builds();
    bench.control.fail_times(Fault::Error, 1);
    let generation = bench.submit("a", 5);
    let state = state_after(&bench.engine, State::Ready).await;
    assert_eq!(state, State::Restarting);
    let refused = bench.engine.submit(request("b", 5)).unwrap_err();
    assert_eq!(refused, SubmitError::Loading);
    bench.control.open_builds();
    let state = state_after(&bench.engine, State::Restarting).await;
    assert_eq!(state, State::Ready);
    assert_eq!(
        answer(generation).await.summary().usage.completion_tokens,
        5
    );
}

#[tokio::test]
async fn a_request_that_makes_steps_fail_ends_alone() {
    let expected = undisturbed().await;
    let bench = bench(4, 10).await;
    bench.control.fail(Fault::ErrorOn(bench.prompt(PROMPTS[2])));
    let answers = all(bench.engine.submit_all(requests()).unwrap()).await;
    for (index, (ours, expected)) in answers.iter().zip(&expected).enumerate() {
        match index {
            2 => {
                let reason = "the toy fails as it was told".to_owned();
                assert_eq!(ours.end, Err(Failure::Model(reason)));
            }
            _ => assert_eq!(ours.text, expected.text),
        }
    }
    // Whenever the request was not alone, the others had to be prefilled again.
    assert!((4..=6).contains(&bench.control.builds()));
    assert_eq!(bench.engine.state(), State::Ready);
}

#[tokio::test]
async fn a_model_that_fails_every_step_is_given_up_after_its_restarts() {
    let bench = bench(2, 3).await;
    bench.control.fail(Fault::Error);
    let all = all(bench.engine.submit_all(requests()).unwrap()).await;
    for answer in &all {
        let Err(Failure::Model(reason)) = &answer.end else {
            panic!("{:?}", answer.end);
        };
        assert!(reason.contains("the toy fails as it was told"), "{reason}");
    }
    let given_up = all.iter().filter(|answer| {
        matches!(&answer.end, Err(Failure::Model(reason)) if reason.contains("loaded again 3 times"))
    });
    assert!(given_up.count() >= 2, "those who only waited hear why");
    assert_eq!(bench.control.builds(), 4);
    let State::Failed(reason) = bench.engine.state() else {
        panic!("{:?}", bench.engine.state());
    };
    assert!(reason.contains("loaded again 3 times"), "{reason}");
}

#[tokio::test]
async fn a_model_that_cannot_be_rebuilt_is_also_given_up() {
    let bench = bench(2, 3).await;
    bench.control.fail_to_build("no memory left");
    bench.control.fail(Fault::Panic);
    let answers = all(bench.engine.submit_all(requests()).unwrap()).await;
    for answer in &answers {
        let Err(Failure::Model(reason)) = &answer.end else {
            panic!("{:?}", answer.end);
        };
        assert!(reason.starts_with("no memory left"), "{reason}");
    }
    assert_eq!(bench.control.builds(), 4);
}

#[tokio::test]
async fn a_step_that_hangs_fails_all_requests_and_the_engine() {
    let bench = Bench::start_with(EngineOptions {
        slots: 2,
        queue: 20,
        step_timeout: Duration::from_millis(200),
        ..OPTIONS
    })
    .await;
    bench.control.hold();
    let generations = bench.engine.submit_all(requests()).unwrap();
    for answer in all(generations).await {
        let Err(Failure::Model(reason)) = &answer.end else {
            panic!("{:?}", answer.end);
        };
        assert!(reason.contains("hangs"), "{reason}");
    }
    let state = state_after(&bench.engine, State::Ready).await;
    assert!(matches!(state, State::Failed(_)), "{state:?}");
    bench.control.open();
}

#[tokio::test]
async fn a_deadline_holds_in_the_middle_of_a_step() {
    let bench = bench(1, 0).await;
    bench.control.hold();
    let deadline = Instant::now() + Duration::from_millis(100);
    let late = bench.engine.submit(Request {
        deadline: Some(deadline),
        ..request("a", 5)
    });
    assert_eq!(
        answer(late.unwrap()).await.end,
        Err(Failure::DeadlineExceeded)
    );
    bench.control.open();
    assert_eq!(answer(bench.submit("b", 5)).await.ids().len(), 0);
}

#[tokio::test]
async fn a_shutdown_ends_within_its_grace_although_a_step_hangs() {
    let bench = bench(1, 0).await;
    bench.control.hold();
    let generation = bench.submit("a", 5);
    bench.control.next_work();
    let shutdown = bench.engine.shutdown(Duration::from_millis(100));
    tokio::time::timeout(PATIENCE, shutdown).await.unwrap();
    assert_eq!(answer(generation).await.end, Err(Failure::ShuttingDown));
    bench.control.open();
}
