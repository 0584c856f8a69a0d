//! The log line that each request has when it ends.

use std::io::Write;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use futures::StreamExt;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::http::held::{decode, is_prefill, run_until};
use crate::http::picture;
use paligemma_test_support::server::Server;
use paligemma_test_support::toy_model::Control;

/// Where the process's log goes.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> String {
    String::from_utf8(LOG.lock().unwrap().clone()).unwrap()
}

async fn logging_server(control: &Arc<Control>) -> Server {
    static LOGGING: Once = Once::new();
    LOGGING.call_once(|| {
        let log = tracing_subscriber::fmt().json().with_writer(|| Log);
        log.with_max_level(tracing::Level::TRACE).init();
    });
    Server::toy(control, &[]).await
}

/// The line of the request that was sent with this id: its level, and its fields.
async fn line(id: &str) -> (String, Value) {
    loop {
        let log = log();
        let lines = log
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of_request = |line: &Value| {
            line["span"]["request_id"] == id && line["fields"]["message"] == "request"
        };
        if let Some(line) = lines.into_iter().find(of_request) {
            return (
                line["level"].as_str().unwrap().to_owned(),
                line["fields"].clone(),
            );
        }
        // A client that leaves is noticed a moment later.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn generate(server: &Server, id: &str, body: &Value) -> RequestBuilder {
    let request = server.post("/v1/generate").header("x-request-id", id);
    request.json(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_has_the_tokens_and_neither_prompt_nor_image() {
    let server = logging_server(&Arc::new(Control::new())).await;
    let image = picture::base64(211);
    let prompt = "what-the-user-keeps-to-himself";
    for (id, prompt, max_tokens, status) in [("logged-1", prompt, 2, 200), ("logged-2", "", 0, 422)]
    {
        let body = json!({"image": image, "prompt": prompt, "max_tokens": max_tokens});
        let answer: Value = server
            .send(generate(&server, id, &body))
            .await
            .json()
            .await
            .unwrap();
        let (level, fields) = line(id).await;
        assert_eq!(level, "INFO");
        assert_eq!(
            (&fields["method"], &fields["route"]),
            (&json!("POST"), &json!("/v1/generate"))
        );
        assert_eq!(
            (&fields["status"], &fields["cancelled"]),
            (&json!(status), &json!(false))
        );
        let tenths = fields["ms"].as_f64().unwrap() * 10.0;
        assert!((tenths - tenths.round()).abs() < 1e-6, "{fields}");
        for count in ["image_tokens", "prompt_tokens", "completion_tokens"] {
            assert_eq!(fields[count], answer["usage"][count], "{fields} {answer}");
        }
    }
    let log = log();
    assert!(!log.contains(prompt) && !log.contains(&image));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_sums_up_all_questions_of_a_request() {
    let server = logging_server(&Arc::new(Control::new())).await;
    let body = json!({
        "image": picture::base64(1), "questions": ["one?", "and another?"], "max_tokens": 3});
    let request = server.post("/v1/vqa").header("x-request-id", "two");
    let answer: Value = server.send(request.json(&body)).await.json().await.unwrap();
    let (_, fields) = line("two").await;
    assert_eq!(fields["image_tokens"], 2 * 4);
    for count in ["image_tokens", "prompt_tokens", "completion_tokens"] {
        assert_eq!(fields[count], answer["usage"][count], "{fields} {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_that_a_client_left_and_what_was_done_for_it() {
    let control = Arc::new(Control::new());
    let server = logging_server(&control).await;
    let body = json!({
        "image": picture::base64(1), "prompt": "", "max_tokens": 4_000, "stream": true});

    // In the middle of a stream, whose status was sent.
    control.hold();
    let request = server.send(generate(&server, "left-later", &body));
    let (response, ()) = tokio::join!(request, decode(&control, 3));
    let mut chunks = response.bytes_stream();
    assert!(chunks.next().await.unwrap().is_ok());
    drop(chunks);
    let (_, fields) = line("left-later").await;
    assert_eq!(
        (&fields["status"], &fields["cancelled"]),
        (&json!(200), &json!(true))
    );
    assert_eq!(
        (&fields["image_tokens"], &fields["prompt_tokens"]),
        (&json!(4), &json!(2))
    );
    let completion = fields["completion_tokens"].as_u64().unwrap();
    assert!((1..=4).contains(&completion), "{fields}");

    // Before the first token, when no status had been sent.
    let other = json!({
        "image": picture::base64(2), "prompt": "", "max_tokens": 4_000, "stream": true});
    let request = server.send(generate(&server, "left-early", &other));
    tokio::select! {
        response = request => panic!("answered with {} before any token", response.status()),
        () = run_until(&control, is_prefill) => {}
    }
    let (level, fields) = line("left-early").await;
    assert_eq!(level, "INFO");
    assert_eq!(
        (&fields["status"], &fields["cancelled"]),
        (&Value::Null, &json!(true))
    );
    assert_eq!(
        (&fields["image_tokens"], &fields["completion_tokens"]),
        (&json!(4), &json!(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_at_debug_level_for_pages_and_for_what_machines_ask_all_the_time() {
    let server = logging_server(&Arc::new(Control::new())).await;
    for (path, expected) in [
        ("/", "DEBUG"),
        ("/playground.js", "DEBUG"),
        ("/favicon.svg", "DEBUG"),
        ("/favicon.ico", "DEBUG"),
        ("/docs", "DEBUG"),
        ("/docs/swagger-ui.css", "DEBUG"),
        ("/openapi.yaml", "DEBUG"),
        ("/openapi.json", "DEBUG"),
        ("/metrics", "DEBUG"),
        ("/healthz", "DEBUG"),
        ("/health/ready", "DEBUG"),
        ("/readyz", "DEBUG"),
        ("/v1/models", "INFO"),
        ("/no/such/path", "INFO"),
    ] {
        let id = format!("level-of-{path}");
        let request = server.get(path).header("x-request-id", &id);
        server.send(request).await;
        let (level, fields) = line(&id).await;
        assert_eq!(level, expected, "{path}");
        assert_eq!(fields["cancelled"], false);
        assert!(fields.get("image_tokens").is_none(), "{fields}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_has_no_tokens() {
    let server = logging_server(&Arc::new(Control::new())).await;
    let request = generate(&server, "refused", &json!({"prompt": ""}));
    let response = server.send(request).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let (_, fields) = line("refused").await;
    assert_eq!(fields["status"], 400);
    assert!(fields.get("prompt_tokens").is_none(), "{fields}");
}
