//! A model that fails again and again, in every way, while many clients read their streams.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use candle_core::bail;
use futures::StreamExt;
use futures::future::join_all;
use paligemma_test_support::flaky_model::Flaky;
use paligemma_test_support::server::Server;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::http::demo::example;
use crate::http::sse::events;

const PICTURES: [&str; 4] = [
    "circle-and-square.jpg",
    "four-shapes.png",
    "red-circle.png",
    "three-hearts.png",
];

const PROMPTS: [&str; 4] = [
    "caption en",
    "detect shape",
    "answer en how many shapes are there?",
    "segment shape",
];

/// One of the 32 things that are asked.
fn body(number: usize) -> Value {
    let picture = example(PICTURES[number % 4]);
    json!({
        "image": BASE64_STANDARD.encode(picture), "prompt": PROMPTS[number / 4 % 4], "stream": true,
    })
}

/// A stream that has begun.
async fn begun(server: &Server, number: usize) -> Response {
    let request = server.post("/v1/generate").json(&body(number));
    let response = server.send(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    response
}

/// The text of a stream that ends well.
async fn text(response: Response) -> String {
    let events: Vec<(String, Value)> = events(response).collect().await;
    let (last, data) = events.last().unwrap();
    assert_eq!(last, "done", "{data}");
    let deltas = events.iter().filter(|(name, _)| name == "delta");
    deltas
        .map(|(_, data)| data["text"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_go_on_through_failures_and_panics_with_what_they_say_in_quiet() {
    let (steps, faulty) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (counted, switch) = (steps.clone(), faulty.clone());
    let failures = Arc::new(AtomicUsize::new(0));
    let failed = failures.clone();
    // Held until all streams have begun: requests that come while the model is loaded again get 503.
    let gate = Arc::new(Mutex::new(()));
    let passed = gate.clone();
    let settings = [
        ("model_restarts", "1000"),
        // With the eight slots, just enough for all.
        ("queue", "24"),
        ("max_token_gap", "1ms"),
    ];
    let server = Server::demo_as(&settings, move |model| {
        let (counted, switch, failed) = (counted.clone(), switch.clone(), failed.clone());
        let passed = passed.clone();
        Flaky {
            model,
            before: Arc::new(move || drop(passed.lock())),
            after: Arc::new(move || {
                if !switch.load(Ordering::SeqCst) {
                    return Ok(());
                }
                // Far enough from each other that nobody is alone in a step when the next one fails: who
                // fails alone is taken for the cause.
                let step = counted.fetch_add(1, Ordering::SeqCst);
                if ![10, 50, 90].contains(&step) {
                    return Ok(());
                }
                match failed.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                    true => bail!("this step fails"),
                    false => panic!("this step panics"),
                }
            }),
        }
    })
    .await;
    let mut quiet = Vec::new();
    for number in 0..16 {
        quiet.push(text(begun(&server, number).await).await);
    }
    assert!(quiet.iter().all(|text| !text.is_empty()), "{quiet:?}");

    let held = gate.lock().unwrap();
    faulty.store(true, Ordering::SeqCst);
    let said = async |number| text(begun(&server, number).await).await;
    let all_are_here = async {
        while server.engine.has_room() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(held);
    };
    let (all, ()) = tokio::join!(join_all((0..32).map(said)), all_are_here);
    faulty.store(false, Ordering::SeqCst);
    for (number, said) in all.iter().enumerate() {
        assert_eq!(said, &quiet[number % 16], "{number}");
    }
    assert_eq!(failures.load(Ordering::SeqCst), 3, "{steps:?} steps");
    // And afterwards all is as before.
    assert_eq!(text(begun(&server, 0).await).await, quiet[0]);
}
