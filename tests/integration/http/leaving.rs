//! Clients that leave: their work ends, wherever it stands, and their slot is free.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::http::held::{decode, is_decode, is_prefill, run_until};
use crate::http::picture;
use paligemma_test_support::server::Server;
use paligemma_test_support::toy_model::Control;

/// So many tokens that a request is never finished while a test looks at it.
const ENDLESS: usize = 4_000;

fn endless(stream: bool) -> Value {
    json!({"image": picture::base64(1), "prompt": "", "max_tokens": ENDLESS, "stream": stream})
}

/// With one slot: another request gets it long before the one that was left could have ended.
async fn assert_slot_is_freed(server: &Server, control: &Arc<Control>) {
    let body = json!({"image": picture::base64(2), "prompt": "", "max_tokens": 1});
    let next = server.json("/v1/generate", &body);
    tokio::pin!(next);
    for works in 1.. {
        assert!(works < ENDLESS / 2, "the slot was not freed");
        control.allow_one();
        let pause = tokio::time::sleep(Duration::from_millis(5));
        tokio::select! {
            (status, answer) = &mut next => {
                assert_eq!(status, StatusCode::OK, "{answer}");
                return;
            }
            () = pause => {}
        }
    }
}

async fn held_server() -> (Server, Arc<Control>) {
    let control = Arc::new(Control::new());
    let server = Server::toy(&control, &[("slots", "1")]).await;
    control.hold();
    (server, control)
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_token() {
    let (server, control) = held_server().await;
    let request = server.send(server.post("/v1/generate").json(&endless(true)));
    tokio::select! {
        response = request => panic!("answered with {} before any token", response.status()),
        () = run_until(&control, is_prefill) => {}
    }
    assert_slot_is_freed(&server, &control).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_mid_stream() {
    let (server, control) = held_server().await;
    let request = server.send(server.post("/v1/generate").json(&endless(true)));
    let (response, ()) = tokio::join!(request, decode(&control, 3));
    let mut chunks = response.bytes_stream();
    assert!(chunks.next().await.unwrap().is_ok());
    drop(chunks);
    assert_slot_is_freed(&server, &control).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_streaming() {
    let (server, control) = held_server().await;
    let request = server.send(server.post("/v1/generate").json(&endless(false)));
    tokio::select! {
        response = request => panic!("answered with {} before the end", response.status()),
        () = run_until(&control, is_decode) => {}
    }
    assert_slot_is_freed(&server, &control).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_waits_in_the_queue() {
    let (server, control) = held_server().await;
    let first = server.send(server.post("/v1/generate").json(&endless(false)));
    let mut first = Box::pin(first);
    tokio::select! {
        response = &mut first => panic!("answered with {} before the end", response.status()),
        () = run_until(&control, is_prefill) => {}
    }
    let second = server.send(server.post("/v1/generate").json(&endless(false)));
    let soon = tokio::time::timeout(Duration::from_millis(100), second);
    assert!(soon.await.is_err(), "there is one slot, and it is taken");
    // Both have left; if the second still waited, it would get the slot and keep it.
    drop(first);
    assert_slot_is_freed(&server, &control).await;
}
