//! Whatever a client, an operator or a file says, the answer is a result or an error, never a panic, a
//! hang or a 5xx.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use paligemma_server::models::{Pretrained, open_mask_decoder};
use paligemma_server::settings::Settings;
use paligemma_test_support::server::Server;
use paligemma_test_support::toy_model::Control;
use proptest::prelude::*;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// One server for all bodies.
static SERVER: LazyLock<(Runtime, Server)> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let control = Arc::new(Control::new());
    let server = runtime.block_on(Server::toy(&control, &[("request_timeout", "5s")]));
    (runtime, server)
});

const ROUTES: [&str; 7] = [
    "/v1/caption",
    "/v1/vqa",
    "/v1/detect",
    "/v1/segment",
    "/v1/generate",
    "/v1/chat/completions",
    "/v1/completions",
];

/// Sends a body, and sees to it that the answer is one, or a problem that is the client's.
fn check_body(route: &str, content_type: &str, body: Vec<u8>) {
    let (runtime, server) = &*SERVER;
    let request = server
        .post(route)
        .header(CONTENT_TYPE, content_type)
        .body(body);
    let (status, answer): (u16, String) = runtime.block_on(async {
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    });
    // A model without a mask decoder says so.
    assert!(status < 500 || status == 501, "{route}: {status} {answer}");
    if status >= 400 {
        let problem: Value = serde_json::from_str(&answer).unwrap();
        let told = problem["detail"].is_string() || problem["error"]["message"].is_string();
        assert!(told, "{route}: {answer}");
    }
}

/// Any JSON, with fields that the routes know among others.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,12}".prop_map(Value::from),
        Just(json!("data:image/png;base64,iVBORw0KGgo=")),
    ];
    let names = prop::sample::select(
        &[
            "image",
            "images",
            "prompt",
            "question",
            "questions",
            "objects",
            "object",
            "max_tokens",
            "stream",
            "temperature",
            "seed",
            "top_p",
            "top_k",
            "logprobs",
            "stop",
            "timeout",
            "region",
            "messages",
            "role",
            "content",
            "type",
            "text",
            "image_url",
            "url",
            "model",
            "n",
            "other",
        ][..],
    );
    leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone(), inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
}

/// `bytes` with some of them changed, and cut.
fn damaged(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = bytes.len();
    let changes = prop::collection::vec((0..length, any::<u8>()), 0..8);
    (changes, 0..=length).prop_map(move |(changes, cut)| {
        let mut bytes = bytes.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(cut.max(length / 2));
        bytes
    })
}

fn multipart() -> Vec<u8> {
    let parts = [
        ("prompt", "what is it?"),
        ("max_tokens", "3"),
        ("image", "no image"),
    ];
    let part = |(name, value)| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let body: String = parts.map(part).concat();
    format!("{body}--b--\r\n").into_bytes()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens/model/pg2-hub-f32")
        .join(name)
}

/// Opens a checkpoint of which one file is another.
fn check_checkpoint(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden("")).unwrap() {
        let path = entry.unwrap().path();
        let link = folder.path().join(path.file_name().unwrap());
        std::os::unix::fs::symlink(&path, link).unwrap();
    }
    fs::remove_file(folder.path().join(name)).unwrap();
    fs::write(folder.path().join(name), bytes).unwrap();
    if let Err(error) = Pretrained::open(folder.path()) {
        let text = error.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn any_json_is_answered(route in prop::sample::select(&ROUTES[..]), body in any_json()) {
        check_body(route, "application/json", body.to_string().into_bytes());
    }

    #[test]
    fn any_bytes_are_answered(
        route in prop::sample::select(&ROUTES[..]),
        kind in prop::sample::select(&["application/json", "multipart/form-data; boundary=b", "image/png", "text/plain"][..]),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        check_body(route, kind, body);
    }

    #[test]
    fn damaged_forms_are_answered(route in prop::sample::select(&ROUTES[..]), body in damaged(multipart())) {
        check_body(route, "multipart/form-data; boundary=b", body);
    }

    #[test]
    fn any_base64_is_answered(text in "[A-Za-z0-9+/=_ \\-]{0,80}") {
        let body = json!({"image": text, "prompt": "p", "max_tokens": 1});
        check_body("/v1/generate", "application/json", body.to_string().into_bytes());
    }

    #[test]
    fn any_settings_are_taken_or_refused(
        name in prop::sample::select(&["slots", "queue", "port", "device", "api_keys", "image_ports", "max_body", "cors_origins", "nonsense"][..]),
        value in "[ -~]{0,24}",
        text in damaged(include_bytes!("../../config/default.toml").to_vec()),
    ) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let flags = BTreeMap::from([(name.to_owned(), value)]);
        for (file, flags) in [(Some(file.path()), BTreeMap::new()), (None, flags)] {
            if let Err(error) = Settings::load(file, [], flags) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn any_safetensors_header_is_taken_or_refused(
        length in prop_oneof![any::<u64>(), 0u64..400],
        header in "[ -~]{0,200}",
    ) {
        let bytes = [&length.to_le_bytes()[..], header.as_bytes()].concat();
        check_checkpoint("model.safetensors", &bytes);
    }

    #[test]
    fn damaged_configurations_are_taken_or_refused(
        config in damaged(fs::read(golden("config.json")).unwrap()),
    ) {
        check_checkpoint("config.json", &config);
    }

    #[test]
    fn any_mask_decoder_is_taken_or_refused(
        kind in prop::sample::select(&["npz", "safetensors"][..]),
        zip in any::<bool>(),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let file = tempfile::Builder::new().suffix(&format!(".{kind}")).tempfile().unwrap();
        let begin: &[u8] = if zip { b"PK\x03\x04" } else { b"" };
        fs::write(file.path(), [begin, &rest].concat()).unwrap();
        prop_assert!(open_mask_decoder(file.path()).is_err());
    }
}
