//! Traces, as a collector receives them.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::http::picture;
use paligemma_test_support::server::{ALIAS, CHECKPOINT, Server};
use paligemma_test_support::toy_model::Control;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

type Exports = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

/// A collector; what it received, and its endpoint.
async fn collector() -> (Exports, String) {
    async fn receive(State(exports): State<Exports>, body: Bytes) {
        let export = ExportTraceServiceRequest::decode(body).unwrap();
        exports.lock().unwrap().push(export);
    }
    let exports = Exports::default();
    let router = Router::new()
        .route("/v1/traces", post(receive))
        .with_state(exports.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (exports, endpoint)
}

fn attributes(list: &[KeyValue]) -> Value {
    let value = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => Some(json!(text)),
        Any::IntValue(number) => Some(json!(number)),
        _ => None,
    };
    let pairs = list.iter().map(|a| (a.key.clone(), value(a).unwrap()));
    Value::Object(pairs.collect())
}

fn spans(exports: &Exports) -> Vec<Span> {
    let exports = exports.lock().unwrap();
    let resources = exports.iter().flat_map(|export| &export.resource_spans);
    let scopes = resources.flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| scope.spans.clone()).collect()
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_span_in_its_clients_trace_with_a_child_for_each_stage() {
    let (exports, endpoint) = collector().await;
    let settings = [("otlp_endpoint", endpoint.as_str())];
    let server = Server::toy(&Arc::new(Control::new()), &settings).await;
    let image = format!("data:image/png;base64,{}", picture::base64(7));
    let body = json!({
        "model": ALIAS, "max_tokens": 3,
        "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "caption en"},
        ]}],
    });
    let request = server.post("/v1/chat/completions").json(&body);
    let request = request.header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
    let response = server.send(request).await;
    let place = response.headers()["traceresponse"].clone();
    let answer: Value = response.json().await.unwrap();
    server.stop().await.unwrap();

    let spans = spans(&exports);
    let is_root = |span: &&Span| hex(&span.parent_span_id) == PARENT;
    let root = spans.iter().find(is_root).unwrap();
    assert_eq!(root.name, format!("chat {ALIAS}"));
    assert_eq!(
        place.to_str().unwrap(),
        format!("00-{TRACE}-{}-01", hex(&root.span_id))
    );
    assert_eq!(
        attributes(&root.attributes),
        json!({
            "http.request.method": "POST",
            "http.route": "/v1/chat/completions",
            "http.response.status_code": 200,
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "paligemma-server",
            "gen_ai.request.model": ALIAS,
            "gen_ai.response.model": CHECKPOINT,
            "gen_ai.usage.input_tokens": answer["usage"]["prompt_tokens"],
            "gen_ai.usage.output_tokens": answer["usage"]["completion_tokens"],
        })
    );
    let mut children: Vec<_> = spans.iter().filter(|span| !is_root(span)).collect();
    children.sort_by_key(|span| (span.start_time_unix_nano, span.end_time_unix_nano));
    let names: Vec<_> = children.iter().map(|span| span.name.as_str()).collect();
    let expected = [
        "receive",
        "wait for a decoder",
        "decode image",
        "queue",
        "vision",
        "prefill",
        "decode",
    ];
    assert_eq!(names, expected);
    let mut before = root.start_time_unix_nano;
    for child in children {
        assert_eq!(hex(&child.trace_id), TRACE);
        assert_eq!(child.parent_span_id, root.span_id, "{}", child.name);
        assert!(before <= child.start_time_unix_nano, "{}", child.name);
        assert!(child.end_time_unix_nano <= root.end_time_unix_nano);
        before = child.end_time_unix_nano;
    }
    let exports = exports.lock().unwrap();
    let resource = exports[0].resource_spans[0].resource.as_ref().unwrap();
    let resource = attributes(&resource.attributes);
    assert_eq!(resource["service.name"], "paligemma-server");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_says_why_and_probes_are_not_traced() {
    let (exports, endpoint) = collector().await;
    let settings = [("otlp_endpoint", endpoint.as_str())];
    let control = Arc::new(Control::new());
    let server = Server::toy(&control, &settings).await;
    control.hold();
    let body = json!({"image": picture::base64(1), "prompt": "caption en", "timeout": "100ms"});
    let (status, answer) = server.json("/v1/generate", &body).await;
    assert_eq!(status, 504, "{answer}");
    control.open();
    for path in ["/health/ready", "/metrics"] {
        let response = server.send(server.get(path)).await;
        assert!(!response.headers().contains_key("traceresponse"));
    }
    server.stop().await.unwrap();

    let spans = spans(&exports);
    let roots: Vec<_> = spans
        .iter()
        .filter(|s| s.parent_span_id.is_empty())
        .collect();
    let [root] = roots[..] else {
        panic!("{roots:?}")
    };
    assert_eq!(root.name, format!("generate_content {CHECKPOINT}"));
    assert_eq!(attributes(&root.attributes)["error.type"], "deadline");
    assert_eq!(root.status.as_ref().unwrap().code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_there_is_no_trace() {
    let server = Server::toy(&Arc::new(Control::new()), &[]).await;
    let request = server.get("/v1/models");
    let request = request.header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
    let response = server.send(request).await;
    assert!(!response.headers().contains_key("traceresponse"));
}
