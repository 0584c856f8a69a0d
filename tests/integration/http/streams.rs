//! Streamed answers.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::http::held::decode;
use crate::http::picture;
use crate::http::sse::events;
use paligemma_test_support::server::{Server, read};
use paligemma_test_support::toy_model::{Control, Fault};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_adds_up_to_the_whole_answer() {
    let server = Server::golden(&[]).await;
    let images = [picture::base64(10), picture::base64(250)];
    let mut body = json!({"images": images, "max_tokens": 12, "logprobs": 0});
    let (_, whole) = server.json("/v1/caption", &body).await;
    body["stream"] = json!(true);
    // Never decided by the Accept header.
    let request = server
        .post("/v1/caption")
        .header("accept", "application/json")
        .json(&body);
    let response = server.send(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(response.headers()[name], value);
    }
    assert!(response.headers().contains_key("x-request-id"));

    let events: Vec<_> = events(response).collect().await;
    let mut texts = [String::new(), String::new()];
    let mut tokens = [0, 0];
    let mut results = [Value::Null, Value::Null];
    let (last, rest) = events.split_last().unwrap();
    for (name, data) in rest {
        let index = data["index"].as_u64().unwrap() as usize;
        match name.as_str() {
            "delta" => {
                assert_eq!(results[index], Value::Null, "a delta after its result");
                texts[index] += data["text"].as_str().unwrap();
                tokens[index] += data["logprobs"].as_array().unwrap().len();
            }
            "result" => results[index] = data.clone(),
            other => panic!("{other}: {data}"),
        }
    }
    assert_eq!(json!(results), whole["results"]);
    for index in 0..2 {
        assert_eq!(results[index]["caption"], texts[index]);
        assert_eq!(results[index]["usage"]["completion_tokens"], tokens[index]);
    }
    let (name, done) = last;
    assert_eq!(name, "done");
    assert_eq!(
        (&done["object"], &done["usage"]),
        (&whole["object"], &whole["usage"])
    );
    assert!(done["timings"]["total_ms"].as_f64().unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_come_one_by_one() {
    let control = Arc::new(Control::new());
    let server = Server::toy(&control, &[]).await;
    control.hold();
    let body =
        json!({"image": picture::base64(1), "prompt": "", "max_tokens": 400, "stream": true});
    let sent = server.send(server.post("/v1/generate").json(&body));
    let (response, ()) = tokio::join!(sent, decode(&control, 3));
    // The model stands still in mid-answer, and there is text already.
    let mut events = events(response);
    let (name, delta) = events.next().await.unwrap();
    assert_eq!((name.as_str(), &delta["index"]), ("delta", &json!(0)));
    control.open();
    let names: Vec<_> = events.map(|(name, _)| name).collect().await;
    assert_eq!(names[names.len() - 2..], ["result", "done"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_before_the_first_token_has_its_own_status() {
    let control = Arc::new(Control::new());
    let server = Server::toy(&control, &[]).await;
    control.fail(Fault::Error);
    let body = json!({"image": picture::base64(1), "stream": true});
    let response = server.send(server.post("/v1/caption").json(&body)).await;
    let (status, problem) = read(response).await;
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (500, &json!("model_failed"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_mid_stream_ends_it_with_an_error_event() {
    let control = Arc::new(Control::new());
    let server = Server::toy(&control, &[]).await;
    control.hold();
    let body = json!({"image": picture::base64(1), "max_tokens": 400, "stream": true});
    let request = server
        .post("/v1/caption")
        .header("x-request-id", "mine")
        .json(&body);
    let (response, ()) = tokio::join!(server.send(request), decode(&control, 5));
    assert_eq!(response.status(), StatusCode::OK);
    control.fail(Fault::Error);
    control.open();
    let events: Vec<_> = events(response).collect().await;
    let (name, problem) = events.last().unwrap();
    assert_eq!(name, "error");
    assert_eq!(
        (&problem["status"], &problem["code"]),
        (&json!(500), &json!("model_failed"))
    );
    assert_eq!(problem["request_id"], "mine");
    assert!(!events.iter().any(|(name, _)| name == "done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_is_kept_alive_by_comments() {
    let control = Arc::new(Control::new());
    let server = Server::toy(&control, &[("keep_alive", "20ms")]).await;
    control.hold();
    let body = json!({"image": picture::base64(1), "max_tokens": 400, "stream": true});
    let (response, ()) = tokio::join!(
        server.send(server.post("/v1/caption").json(&body)),
        decode(&control, 3)
    );
    let mut seen = String::new();
    let mut chunks = response.bytes_stream();
    let comment = async {
        while !seen.contains("\n\n:\n\n") {
            seen += str::from_utf8(&chunks.next().await.unwrap().unwrap()).unwrap();
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), comment).await;
    control.open();
    assert!(waited.is_ok(), "no comment in {seen:?}");
}
