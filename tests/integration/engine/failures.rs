//! A model that can't be loaded or fails for good ends every request with the reason.

use std::sync::Arc;

use paligemma_server::engine::{EngineHandle, Failure, State, SubmitError};

use crate::engine::bench::{Bench, OPTIONS, answer, request, state_after, tokenizer};
use paligemma_test_support::toy_model::{Control, Fault, Toy, Work};

async fn everyone_hears_of(fault: Fault, text: &str) {
    let bench = Bench::start(2, 2).await;
    bench.control.hold();
    let all = ["a", "b", "c", "d"]
        .map(|prompt| request(prompt, 5))
        .to_vec();
    let all = bench.engine.submit_all(all).unwrap();
    bench
        .control
        .run_until(|work| matches!(work, Work::Step { .. }));
    bench.control.fail(fault);
    bench.control.open();
    for generation in all {
        let end = answer(generation).await.end;
        assert_eq!(end, Err(Failure::Model(text.to_owned())));
    }
    assert_eq!(bench.engine.state(), State::Failed(text.to_owned()));
    let refused = bench.engine.submit(request("late", 5)).unwrap_err();
    assert_eq!(refused, SubmitError::Failed(text.to_owned()));
    bench
        .engine
        .shutdown(std::time::Duration::from_secs(3600))
        .await;
    assert_eq!(bench.engine.state(), State::Failed(text.to_owned()));
}

#[tokio::test]
async fn a_panic_of_the_model_fails_all_requests_and_the_engine() {
    everyone_hears_of(Fault::Panic, "panicked: the toy panics as it was told").await;
}

#[tokio::test]
async fn a_device_error_fails_all_requests_and_the_engine() {
    everyone_hears_of(Fault::Error, "the toy fails as it was told").await;
}

#[tokio::test]
async fn requests_that_race_with_a_failure_also_end() {
    let bench = Bench::start(2, 100).await;
    bench.control.fail(Fault::Error);
    let engine = bench.engine.clone();
    let submitter = std::thread::spawn(move || {
        let mut taken = Vec::new();
        loop {
            match engine.submit(request("prompt", 5)) {
                Ok(generation) => taken.push(generation),
                Err(SubmitError::Failed(_)) => return taken,
                Err(SubmitError::QueueFull { .. }) => std::thread::yield_now(),
                Err(other) => panic!("{other}"),
            }
        }
    });
    for generation in submitter.join().unwrap() {
        assert!(matches!(
            answer(generation).await.end,
            Err(Failure::Model(_))
        ));
    }
}

#[tokio::test]
async fn logits_that_are_not_finite_fail_their_own_request_alone() {
    let bench = Bench::start(2, 0).await;
    bench.control.fail(Fault::NanInSlot(0));
    let both = vec![request("spoiled", 20), request("sound", 20)];
    let mut both = bench.engine.submit_all(both).unwrap().into_iter();
    let spoiled = answer(both.next().unwrap()).await;
    let sound = answer(both.next().unwrap()).await;
    let Err(Failure::Model(text)) = spoiled.end else {
        panic!("{:?}", spoiled.end);
    };
    assert!(text.contains("not finite"), "{text}");
    assert_eq!(sound.summary().usage.completion_tokens, 20);
    // The toy spoils the slot until it is cleared.
    let next = answer(bench.submit("sound", 20)).await;
    assert_eq!(next.text, sound.text);
    assert_eq!(bench.engine.state(), State::Ready);
}

fn start(factory: impl Fn() -> Result<Toy, String> + Send + 'static) -> EngineHandle {
    EngineHandle::start(OPTIONS, tokenizer(), factory)
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_fails_the_engine_with_the_reason() {
    let failed = start(|| Err("no such weights".to_owned()));
    let state = state_after(&failed, State::Loading).await;
    assert_eq!(state, State::Failed("no such weights".to_owned()));
    let panicked = start(|| panic!("no such device"));
    let state = state_after(&panicked, State::Loading).await;
    assert_eq!(state, State::Failed("panicked: no such device".to_owned()));
}

#[tokio::test]
async fn while_the_model_is_loaded_requests_are_refused() {
    let (go, wait) = std::sync::mpsc::channel();
    let vocab_size = tokenizer().vocab_size();
    let engine = start(move || {
        wait.recv().map_err(|error| error.to_string())?;
        Arc::new(Control::new()).build(vocab_size)
    });
    let refused = engine.submit(request("early", 5)).unwrap_err();
    assert_eq!(refused, SubmitError::Loading);
    go.send(()).unwrap();
    assert_eq!(state_after(&engine, State::Loading).await, State::Ready);
}

#[tokio::test]
async fn a_model_with_another_vocabulary_than_the_tokenizer_fails_the_engine() {
    let engine = start(|| Arc::new(Control::new()).build(5000));
    state_after(&engine, State::Loading).await;
    let end = answer(engine.submit(request("prompt", 5)).unwrap())
        .await
        .end;
    let Err(Failure::Model(text)) = end else {
        panic!("{end:?}");
    };
    assert!(text.contains("[1, 5000]"), "{text}");
}
