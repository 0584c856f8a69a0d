//! Batches in OpenAI's form.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::life::{LONG, Server};
use super::{assert_tells, binary, failure, run};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images");

fn demo() -> (Server, String) {
    let server = Server::ready_as(&["serve", "--port", "0", "--log-level", "off"]);
    let url = format!("http://{}", server.address());
    (server, url)
}

fn picture() -> String {
    STANDARD.encode(std::fs::read(format!("{EXAMPLES}/red-circle.png")).unwrap())
}

fn request(custom_id: &str, url: &str, body: &Value) -> String {
    let line = json!({"custom_id": custom_id, "method": "POST", "url": url, "body": body});
    format!("{line}\n")
}

fn chat() -> Value {
    let url = format!("data:image/png;base64,{}", picture());
    let content = json!([{"type": "text", "text": "cap en"},
        {"type": "image_url", "image_url": {"url": url}}]);
    json!({"model": "demo", "messages": [{"role": "user", "content": content}]})
}

fn batch(input: &Path, output: &Path, more: &[&str]) -> Output {
    let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
    run(&[&["annotate", "--batch", input, "--output", output], more].concat())
}

/// Answers by custom_id; each has one.
#[track_caller]
fn answers(output: &Path) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(output).unwrap();
    let answers = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let named: BTreeMap<_, _> = answers
        .map(|answer| (answer["custom_id"].as_str().unwrap().to_owned(), answer))
        .collect();
    assert_eq!(named.len(), text.lines().count(), "two answers");
    named
}

#[test]
fn requests_of_all_routes_are_answered_in_openais_form() {
    let (_server, url) = demo();
    let folder = tempfile::tempdir().unwrap();
    let under = |path: &str| folder.path().join(path);
    let detect = json!({"image": picture(), "objects": ["red circle"]});
    let lines = [
        request("chat", "/v1/chat/completions", &chat()),
        request("detect", "/v1/detect", &detect),
        request("wrong", "/v1/caption", &json!({"image": "AAAA"})),
    ];
    std::fs::write(under("in"), lines.concat()).unwrap();
    let output = batch(&under("in"), &under("out"), &["--server", &url]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{log}");
    assert_tells(&log, &["1 of 3 requests have no answer"]);
    let answers = answers(&under("out"));
    let chat = &answers["chat"];
    assert!(chat["id"].as_str().unwrap().starts_with("batch_req_"));
    assert_eq!(
        (&chat["error"], &chat["response"]["status_code"]),
        (&Value::Null, &json!(200))
    );
    assert_eq!(chat["response"]["request_id"].as_str().unwrap().len(), 36);
    let message = &chat["response"]["body"]["choices"][0]["message"];
    assert_eq!(message["content"], "a red circle");
    let results = &answers["detect"]["response"]["body"]["results"];
    assert_eq!(results[0]["objects"][0]["label"], "red circle");
    let wrong = &answers["wrong"]["response"];
    assert_eq!(wrong["status_code"], 422);
    assert_eq!(wrong["body"]["code"], "not_an_image");

    // What has an answer is not sent again.
    let before = std::fs::read(under("out")).unwrap();
    let more = ["--server", &url, "--keep-going"];
    assert!(batch(&under("in"), &under("out"), &more).status.success());
    assert_eq!(std::fs::read(under("out")).unwrap(), before);
}

#[test]
fn a_batch_that_is_killed_goes_on_where_it_was() {
    let (_server, url) = demo();
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let lines =
        (0..100).map(|number| request(&number.to_string(), "/v1/chat/completions", &chat()));
    std::fs::write(&input, lines.collect::<String>()).unwrap();
    let mut command = binary(&["annotate", "--server", &url, "--in-flight", "2", "--batch"]);
    command.arg(&input).arg("--output").arg(&output);
    let mut process = command.stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while std::fs::read_to_string(&output).map_or(0, |text| text.lines().count()) < 10 {
        assert!(begun.elapsed() < LONG, "no answers");
        std::thread::sleep(Duration::from_millis(2));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(std::fs::read_to_string(&output).unwrap().lines().count() < 100);
    let resumed = batch(&input, &output, &["--server", &url]);
    assert!(resumed.status.success(), "{resumed:?}");
    assert_eq!(answers(&output).len(), 100);
}

#[test]
fn a_batch_that_can_not_be_sent_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::write(&input, request("a", "/v1/files", &json!({}))).unwrap();
    let server = ["--server", "http://127.0.0.1:9"];
    let refused = batch(&input, &output, &server);
    assert_tells(&failure(&refused, 1), &["--batch", "line 1", "/v1/files"]);
    let refused = batch(&input, &output, &[]);
    assert_tells(&failure(&refused, 2), &["--batch needs", "--server URL"]);
    let refused = batch(&input, &output, &["--object", "cat"]);
    assert_tells(&failure(&refused, 2), &["--object is for"]);
    let refused = batch(&input, &output, &["--task", "ocr"]);
    assert_eq!(refused.status.code(), Some(2));
    // Records of pictures are no answers.
    std::fs::write(&input, request("a", "/v1/ocr", &json!({}))).unwrap();
    std::fs::write(&output, "{\"file\":\"a.jpg\"}\n").unwrap();
    let refused = batch(&input, &output, &server);
    assert_tells(&failure(&refused, 1), &["--output", "line 1"]);
}
