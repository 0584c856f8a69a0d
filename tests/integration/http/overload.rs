//! When the model can't answer: too busy, too slow, broken, not there yet or not any more.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use futures::future::select;
use paligemma_server::engine::State;
use paligemma_server::server::ServerError;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::picture;
use paligemma_test_support::server::{Server, assert_problem, read};
use paligemma_test_support::toy_model::{Control, Fault, Work};

fn body(shade: u8) -> Value {
    json!({"image": picture::base64(shade), "prompt": "", "max_tokens": 2})
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
    assert_problem(
        &read(refused).await,
        429,
        "queue_full",
        "the queue is full (1 waiting)",
    );
    control.open();
    let (running, waited) = tokio::join!(running, waiting);
    assert_eq!(
        (running.0, waited.status()),
        (StatusCode::OK, StatusCode::OK)
    );
}

/// A request of which half has arrived.
async fn half_a_request(server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let half = "POST /v1/generate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
                content-length: 1000\r\n\r\n{\"prompt\":";
    socket.write_all(half.as_bytes()).await.unwrap();
    socket
}

/// Asks until the answer has this status.
async fn ask_until(server: &Server, status: StatusCode) -> Response {
    let asking = async {
        loop {
            let request = server.post("/v1/generate").json(&body(1));
            let response = server.send(request).await;
            if response.status() == status {
                return response;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), asking).await;
    answer.unwrap_or_else(|_| panic!("never {status}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_without_bodies_keep_nobody_out() {
    let server = Server::toy(&Arc::new(Control::new()), &[("slots", "1"), ("queue", "1")]).await;
    let mut halves = Vec::new();
    for _ in 0..20 {
        halves.push(half_a_request(&server).await);
    }
    wait_for_uploads(&server, 20).await;
    let (status, answer) = server.json("/v1/generate", &body(1)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_sends_so_many_bodies_at_a_time() {
    let settings = [("uploads_per_client", "2")];
    let server = Server::toy(&Arc::new(Control::new()), &settings).await;
    let halves = [half_a_request(&server).await, half_a_request(&server).await];
    let refused = ask_until(&server, StatusCode::TOO_MANY_REQUESTS).await;
    assert!(refused.headers().contains_key("retry-after"));
    let refused = read(refused).await;
    assert_problem(
        &refused,
        429,
        "too_many_uploads",
        "2 requests of this address",
    );
    // Whoever asks for something else is served.
    let models = server.send(server.get("/v1/models")).await;
    assert_eq!(models.status(), StatusCode::OK);
    // With their connections, the uploads are gone.
    drop(halves);
    ask_until(&server, StatusCode::OK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_take_no_more_memory_than_there_is_for_them() {
    let settings = [("upload_memory", "1KB")];
    let server = Server::toy(&Arc::new(Control::new()), &settings).await;
    let mut body = body(1);
    body["prompt"] = "x".repeat(1000).into();
    let answer = server.json("/v1/generate", &body).await;
    assert_problem(&answer, 429, "too_many_uploads", "memory");
    // What it took is free again.
    body["prompt"] = "x".into();
    let (status, answer) = server.json("/v1/generate", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_before_the_body_is_there() {
    let control = Arc::new(Control::new());
    let server = Server::toy(&control, &[("slots", "1"), ("queue", "1")]).await;
    control.hold();
    let (one, other) = (body(1), body(2));
    let asking = async {
        tokio::join!(
            server.json("/v1/generate", &one),
            server.json("/v1/generate", &other)
        )
    };
    tokio::pin!(asking);
    let refusing = async {
        loop {
            // One that comes before the queue is full waits for the rest of its body.
            let mut socket = half_a_request(&server).await;
            let mut head = [0; 12];
            let answered = socket.read_exact(&mut head);
            if tokio::time::timeout(Duration::from_millis(100), answered)
                .await
                .is_ok()
            {
                return head;
            }
        }
    };
    let head = tokio::select! {
        answers = &mut asking => panic!("answered while held: {answers:?}"),
        head = refusing => head,
    };
    assert_eq!(&head, b"HTTP/1.1 429");
    control.open();
    asking.await;
}

/// Waits until this process receives so many bodies; other tests' servers count, too.
async fn wait_for_uploads(server: &Server, count: usize) {
    let waiting = async {
        loop {
            let metrics = server.send(server.get("/metrics")).await;
            let metrics = metrics.text().await.unwrap();
            let mut lines = metrics.lines();
            let uploads = lines
                .find_map(|line| line.strip_prefix(r#"paligemma_preparing{stage="receiving"} "#));
            if uploads.unwrap().parse::<usize>().unwrap() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    waited.unwrap_or_else(|_| panic!("never {count} uploads"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_in_time_answers_408() {
    let settings = [("upload_timeout", "50ms")];
    let server = Server::toy(&Arc::new(Control::new()), &settings).await;
    let mut socket = half_a_request(&server).await;
    let mut answer = String::new();
    let mut chunk = [0; 4096];
    while !answer.contains('}') {
        let read = tokio::time::timeout(Duration::from_secs(20), socket.read(&mut chunk));
        let read = read.await.expect("an answer").unwrap();
        assert_ne!(read, 0, "ended after {answer:?}");
        answer += str::from_utf8(&chunk[..read]).unwrap();
    }
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"code\":\"request_timeout\""), "{answer}");
    assert!(answer.contains("did not arrive within 50ms"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_questions_than_the_queue_holds_are_refused_together() {
    let server = Server::toy(&Arc::new(Control::new()), &[("slots", "1"), ("queue", "1")]).await;
    let body = json!({"image": picture::base64(1), "questions": ["a?", "b?", "c?"]});
    assert_problem(
        &server.json("/v1/vqa", &body).await,
        422,
        "out_of_range",
        "at most 2 fit",
    );
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
    assert_problem(&answer.0, 504, "deadline_exceeded", "deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_fails_for_good_answers_500_and_ends_the_server() {
    for fault in [Fault::Error, Fault::Panic] {
        let control = Arc::new(Control::new());
        let server = Server::toy(&control, &[]).await;
        control.fail(fault);
        assert_problem(
            &server.json("/v1/generate", &body(1)).await,
            500,
            "model_failed",
            "the model failed",
        );
        let end = server.end().await;
        assert!(matches!(end, Err(ServerError::Model(_))), "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_model_is_reloaded_new_requests_get_503_and_old_ones_an_answer() {
    let control = Arc::new(Control::new());
    let server = Server::toy(&control, &[("model_restarts", "1")]).await;
    let expected = server.json("/v1/generate", &body(1)).await;
    control.hold_builds();
    control.fail_times(Fault::Error, 1);
    let mut states = server.engine.watch_state();
    let request = body(1);
    let answer = server.json("/v1/generate", &request);
    let meanwhile = async {
        let restarting = states.wait_for(|state| *state == State::Restarting);
        drop(restarting.await.unwrap());
        let ready = read(server.send(server.get("/health/ready")).await).await;
        assert_problem(&ready, 503, "loading", "is being loaded again");
        let refused = server.json("/v1/generate", &body(1)).await;
        assert_problem(&refused, 503, "loading", "is being loaded again");
        let live = server.send(server.get("/health/live")).await;
        assert_eq!(live.status(), StatusCode::OK);
        control.open_builds();
    };
    let (answer, ()) = tokio::join!(answer, meanwhile);
    assert_eq!(answer.0, StatusCode::OK);
    assert_eq!(answer.1["results"], expected.1["results"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_loading_answers_503_with_retry_after() {
    let (loaded, wait) = channel();
    let server = Server::toy_built_by(&[], move |vocab_size| {
        wait.recv().map_err(|error| error.to_string())?;
        Arc::new(Control::new()).build(vocab_size)
    });
    let server = server.await;
    for path in ["/health/ready", "/health", "/readyz"] {
        let response = server.send(server.get(path)).await;
        assert!(response.headers().contains_key("retry-after"));
        let answer = read(response).await;
        assert_problem(&answer, 503, "loading", "is still being loaded");
        assert_eq!(answer.1["loaded"], 0.0);
    }
    assert_problem(
        &server.json("/v1/generate", &body(1)).await,
        503,
        "loading",
        "is still being loaded",
    );
    for path in ["/health/live", "/healthz", "/v1/models", "/metrics"] {
        assert_eq!(server.send(server.get(path)).await.status(), StatusCode::OK);
    }
    let (_, models) = read(server.send(server.get("/v1/models")).await).await;
    assert_eq!(models["data"][0]["status"], "loading");
    assert_eq!(models["data"][0]["loaded"], 0.0);
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
async fn a_draining_server_finishes_running_requests_and_refuses_new_ones() {
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
    assert_problem(
        &read(response).await,
        503,
        "shutting_down",
        "takes no new requests",
    );
    let ready = read(server.send(server.get("/health/ready")).await).await;
    assert_problem(&ready, 503, "shutting_down", "takes no new requests");
    control.open();
    assert_eq!(running.await.0, StatusCode::OK);
    shutdown.await.unwrap();
}
