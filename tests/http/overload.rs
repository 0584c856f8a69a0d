//! When the model can't answer: too busy, too slow, broken, not there yet or not any more.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use futures::future::select;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::picture;
use crate::server::{Server, read};
use crate::toy_model::{Control, Fault, Toy, Work};

fn body(shade: u8) -> Value {
    json!({"image": picture::base64(shade), "prompt": "", "max_tokens": 2})
}

#[track_caller]
fn assert_problem(answer: &(StatusCode, Value), status: u16, code: &str) {
    let (found, problem) = answer;
    assert_eq!(
        (found.as_u16(), &problem["code"]),
        (status, &json!(code)),
        "{problem}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_429_with_retry_after() {
    let control = Arc::new(Control::new());
    let server = Server::toy(&control, &[("slots", "1"), ("queue", "1")]).await;
    control.hold();
    let one = body(1);
    let running = server.json("/v1/generate", &one);
    tokio::pin!(running);
    let its_control = control.clone();
    let started = tokio::task::spawn_blocking(move || its_control.next_work());
    tokio::select! {
        answer = &mut running => panic!("answered while held: {answer:?}"),
        work = started => assert!(matches!(work.unwrap(), Work::Encode { .. })),
    }
    // Of two more, one waits and one is refused at once.
    let ask = async |shade| {
        server
            .send(server.post("/v1/generate").json(&body(shade)))
            .await
    };
    let pair = select(Box::pin(ask(2)), Box::pin(ask(3)));
    let (refused, waiting) = tokio::select! {
        answer = &mut running => panic!("answered while held: {answer:?}"),
        pair = pair => pair.factor_first(),
    };
    let wait = refused.headers()["retry-after"].to_str().unwrap();
    assert!(wait.parse::<u64>().unwrap() >= 1);
    assert_problem(&read(refused).await, 429, "queue_full");
    control.open();
    let (running, waited) = tokio::join!(running, waiting);
    assert_eq!(
        (running.0, waited.status()),
        (StatusCode::OK, StatusCode::OK)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_questions_than_the_queue_holds_are_refused_together() {
    let server = Server::toy(&Arc::new(Control::new()), &[("slots", "1"), ("queue", "1")]).await;
    let body = json!({"image": picture::base64(1), "questions": ["a?", "b?", "c?"]});
    assert_problem(&server.json("/v1/vqa", &body).await, 422, "out_of_range");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_its_deadline_answers_504() {
    let control = Arc::new(Control::new());
    let server = Server::toy(&control, &[]).await;
    control.hold();
    let mut body = body(1);
    body["timeout"] = json!("50ms");
    let answer = tokio::join!(server.json("/v1/generate", &body), async {
        let begun = {
            let control = control.clone();
            move || control.next_work()
        };
        tokio::task::spawn_blocking(begun).await.unwrap();
        // The engine sees deadlines between two pieces of work.
        tokio::time::sleep(Duration::from_millis(60)).await;
        control.open();
    });
    assert_problem(&answer.0, 504, "deadline_exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_fails_answers_500_and_then_503() {
    for fault in [Fault::Error, Fault::Panic] {
        let control = Arc::new(Control::new());
        let server = Server::toy(&control, &[]).await;
        control.fail(fault);
        assert_problem(
            &server.json("/v1/generate", &body(1)).await,
            500,
            "model_failed",
        );
        assert_problem(
            &server.json("/v1/generate", &body(1)).await,
            503,
            "unavailable",
        );
        let ready = read(server.send(server.get("/health/ready")).await).await;
        assert_problem(&ready, 503, "unavailable");
        let live = server.send(server.get("/health/live")).await;
        assert_eq!(live.status(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_loading_answers_503_with_retry_after() {
    let (loaded, wait) = channel();
    let server = Server::toy_loaded_by(&[], move |vocab_size| {
        wait.recv().map_err(|error| error.to_string())?;
        let control = Arc::new(Control::new());
        Ok(Toy {
            control,
            vocab_size,
        })
    });
    let server = server.await;
    for path in ["/health/ready", "/health", "/readyz"] {
        let response = server.send(server.get(path)).await;
        assert!(response.headers().contains_key("retry-after"));
        assert_problem(&read(response).await, 503, "loading");
    }
    assert_problem(&server.json("/v1/generate", &body(1)).await, 503, "loading");
    for path in ["/health/live", "/healthz", "/v1/models", "/metrics"] {
        assert_eq!(server.send(server.get(path)).await.status(), StatusCode::OK);
    }
    loaded.send(()).unwrap();
    let mut states = server.engine.watch_state();
    let ready = paligemma_server::engine::State::Ready;
    states.wait_for(|state| *state == ready).await.unwrap();
    for path in ["/health/ready", "/health", "/readyz"] {
        assert_eq!(server.send(server.get(path)).await.status(), StatusCode::OK);
    }
    assert_eq!(
        server.json("/v1/generate", &body(1)).await.0,
        StatusCode::OK
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_drains_finishes_what_runs_and_takes_nothing_new() {
    let control = Arc::new(Control::new());
    let server = Server::toy(&control, &[]).await;
    control.hold();
    let one = body(1);
    let running = server.json("/v1/generate", &one);
    tokio::pin!(running);
    let its_control = control.clone();
    let started = tokio::task::spawn_blocking(move || its_control.next_work());
    tokio::select! {
        answer = &mut running => panic!("answered while held: {answer:?}"),
        work = started => drop(work.unwrap()),
    }
    let engine = server.engine.clone();
    let shutdown = tokio::spawn(async move { engine.shutdown(Duration::from_secs(20)).await });
    let mut states = server.engine.watch_state();
    let draining = paligemma_server::engine::State::Draining;
    states.wait_for(|state| *state == draining).await.unwrap();
    let response = server
        .send(server.post("/v1/generate").json(&body(2)))
        .await;
    assert!(response.headers().contains_key("retry-after"));
    assert_problem(&read(response).await, 503, "shutting_down");
    let ready = read(server.send(server.get("/health/ready")).await).await;
    assert_problem(&ready, 503, "shutting_down");
    control.open();
    assert_eq!(running.await.0, StatusCode::OK);
    shutdown.await.unwrap();
}
