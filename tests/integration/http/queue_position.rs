//! Streams that tell their place in the queue.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::http::held::run_until;
use crate::http::picture;
use crate::http::sse::events;
use paligemma_test_support::server::Server;
use paligemma_test_support::toy_model::Control;

/// A server with one slot, which a request holds.
async fn busy() -> (Arc<Control>, Arc<Server>, JoinHandle<()>) {
    let control = Arc::new(Control::new());
    let server = Arc::new(Server::toy(&control, &[("slots", "1")]).await);
    control.hold();
    let request = server.post("/v1/generate");
    let body = json!({"image": picture::base64(1), "prompt": "", "max_tokens": 2});
    let its_server = server.clone();
    let running = tokio::spawn(async move {
        let response = its_server.send(request.json(&body)).await;
        assert_eq!(response.status(), StatusCode::OK);
    });
    run_until(&control, |_| true).await;
    (control, server, running)
}

/// A streamed request with these fields.
fn streamed(fields: &Value) -> Value {
    let mut body = json!({"image": picture::base64(2), "max_tokens": 2, "stream": true});
    let fields = fields.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_asks_for_it_is_told_its_place_in_the_queue() {
    let (control, server, running) = busy().await;
    let body = streamed(&json!({"questions": ["a?", "b?"], "queue_position": true}));
    let response = server.send(server.post("/v1/vqa").json(&body)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut events = events(response);
    for (index, position) in [(0, 1), (1, 2)] {
        let expected = (
            "queued".to_owned(),
            json!({"index": index, "position": position}),
        );
        assert_eq!(events.next().await.unwrap(), expected);
    }
    control.open();
    running.await.unwrap();
    let rest: Vec<_> = events.collect().await;
    let mut last = [1, 2];
    let mut begun = [false, false];
    for (name, data) in &rest[..rest.len() - 1] {
        let index = data["index"].as_u64().unwrap() as usize;
        if name == "queued" {
            assert!(!begun[index], "queued after the answer began");
            let position = data["position"].as_u64().unwrap();
            assert!(position < last[index], "from {} to {position}", last[index]);
            last[index] = position;
        } else {
            begun[index] = true;
        }
    }
    assert_eq!(
        (begun, rest.last().unwrap().0.as_str()),
        ([true, true], "done")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_need_not_wait_is_told_no_place() {
    let server = Server::golden(&[]).await;
    let body = streamed(&json!({"queue_position": true}));
    let response = server.send(server.post("/v1/caption").json(&body)).await;
    let events: Vec<_> = events(response).collect().await;
    assert!(
        events.iter().all(|(name, _)| name != "queued"),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_the_queue_has_its_status_unless_the_place_was_asked_for() {
    let (control, server, running) = busy().await;
    let ask = async |place: bool| {
        let body = streamed(&json!({"timeout": "50ms", "queue_position": place}));
        server.send(server.post("/v1/caption").json(&body)).await
    };
    assert_eq!(ask(false).await.status(), StatusCode::GATEWAY_TIMEOUT);
    let told = ask(true).await;
    assert_eq!(told.status(), StatusCode::OK);
    let events: Vec<_> = events(told).collect().await;
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["queued", "error"]);
    assert_eq!(events[1].1["status"], 504);
    control.open();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_openais_protocol_are_told_no_place() {
    let (control, server, running) = busy().await;
    let body = json!({
        "prompt": "caption en", "image": picture::base64(2), "max_tokens": 2,
        "stream": true, "queue_position": true,
    });
    let sent = server.send(server.post("/v1/completions").json(&body));
    tokio::pin!(sent);
    // Not even the head is there while the request waits.
    let early = tokio::time::timeout(Duration::from_millis(100), &mut sent).await;
    assert!(early.is_err(), "{early:?}");
    control.open();
    running.await.unwrap();
    let text = sent.await.text().await.unwrap();
    let lines = text.lines().filter(|line| !line.is_empty());
    for line in lines {
        assert!(line.starts_with("data:") || line.starts_with(':'), "{line}");
    }
    assert!(!text.contains("position"), "{text}");
}
