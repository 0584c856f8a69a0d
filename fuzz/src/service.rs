//! The whole service in this process, over a toy model.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use paligemma_server::api::{self, AppState};
use paligemma_server::engine::State;
use paligemma_server::runtime::Runtime;
use paligemma_server::settings::Settings;
use paligemma_test_support::golden_checkpoint;
use paligemma_test_support::toy_model::{Control, IMAGE_TOKENS};
use serde_json::Value;
use tower::ServiceExt;

/// The routes that take a body.
pub const ROUTES: [&str; 9] = [
    "/v1/caption",
    "/v1/vqa",
    "/v1/question",
    "/v1/ocr",
    "/v1/detect",
    "/v1/segment",
    "/v1/generate",
    "/v1/chat/completions",
    "/v1/completions",
];

struct Service {
    tokio: tokio::runtime::Runtime,
    router: Router,
    control: Arc<Control>,
}

static SERVICE: LazyLock<Service> = LazyLock::new(start);

fn start() -> Service {
    let model = golden_checkpoint("pg1-hub-bf16-sharded");
    // Short answers and small images, so that the fuzzer sees many of them.
    let flags = [
        ("model", model.to_str().expect("a path in UTF-8")),
        ("device", "cpu"),
        ("dtype", "f32"),
        ("context", "64"),
        ("max_tokens_default", "2"),
        ("max_body", "64KiB"),
        ("max_image_pixels", "65536"),
        ("request_timeout", "5s"),
    ];
    let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let settings = Settings::load(None, [], BTreeMap::from(flags)).expect("valid settings");
    let tokio = tokio::runtime::Runtime::new().expect("threads");
    let control = Arc::new(Control::new());
    let state = tokio.block_on(async {
        let runtime = Runtime::load(&settings).await.expect("a golden checkpoint");
        let (model, vocab_size) = (Arc::clone(&control), runtime.tokenizer.vocab_size());
        let runtime = runtime.with_factory(IMAGE_TOKENS, move || model.build(vocab_size));
        let state = AppState::start(runtime).expect("a first start");
        let mut states = state.engine.watch_state();
        let ready = states.wait_for(|state| *state != State::Loading).await;
        assert_eq!(*ready.expect("an engine"), State::Ready);
        state
    });
    Service {
        tokio,
        router: api::router(state),
        control,
    }
}

/// Sends a body. The answer is a good one, or a problem that is the client's; its status and code are
/// returned.
pub fn post(route: &str, content_type: &str, body: Vec<u8>) -> (u16, Option<String>) {
    let service = &*SERVICE;
    let request = Request::post(route)
        .header(header::CONTENT_TYPE, content_type)
        .body(Body::from(body))
        .expect("a valid request");
    let (status, answer) = service.tokio.block_on(async {
        let Ok(response) = service.router.clone().oneshot(request).await;
        let status = response.status().as_u16();
        let answer = to_bytes(response.into_body(), usize::MAX).await;
        (status, answer.expect("the whole answer"))
    });
    // The toy notes its work for tests that ask.
    while service.control.work_done().is_some() {}
    let answer = String::from_utf8(answer.into()).expect("answers are UTF-8");
    // This model has no mask decoder, and a client may set its own deadline.
    assert!(
        status < 500 || matches!(status, 501 | 504),
        "{route}: {status} {answer}"
    );
    if status < 400 {
        return (status, None);
    }
    let problem: Value = serde_json::from_str(&answer).expect("a problem is JSON");
    let of_openai = &problem["error"];
    let detail = problem["detail"].as_str().or(of_openai["message"].as_str());
    assert!(detail.is_some_and(|it| !it.is_empty()), "{route}: {answer}");
    let code = problem["code"].as_str().or(of_openai["code"].as_str());
    (status, code.map(str::to_owned))
}
