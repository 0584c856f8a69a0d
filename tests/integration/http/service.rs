//! What is true of every route: keys, ids, unknown paths, metrics, the published contract.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use paligemma_server::http_client;
use paligemma_server::kernels::Instructions;
use paligemma_server::server;
use paligemma_server::settings::Settings;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::http::picture;
use paligemma_test_support::server::{ALIAS, CHECKPOINT, Server, assert_problem, read};
use paligemma_test_support::toy_model::Control;

async fn toy(settings: &[(&str, &str)]) -> Server {
    Server::toy(&Arc::new(Control::new()), settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_set_v1_needs_one_and_the_rest_does_not() {
    let server = toy(&[("api_keys", "first,second")]).await;
    let body = json!({"image": picture::base64(1), "max_tokens": 1});
    for key in [None, Some("third")] {
        let request = server.post("/v1/caption").json(&body);
        let request = key
            .into_iter()
            .fold(request, |request, key| request.bearer_auth(key));
        let response = server.send(request).await;
        assert!(
            response.headers()["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Bearer")
        );
        let (status, problem) = read(response).await;
        assert_eq!(
            (status.as_u16(), &problem["code"]),
            (401, &json!("unauthorized"))
        );
    }
    let models = server.send(server.get("/v1/models")).await;
    assert_eq!(models.status(), StatusCode::UNAUTHORIZED);
    for key in ["first", "second"] {
        let request = server.post("/v1/caption").bearer_auth(key).json(&body);
        assert_eq!(server.send(request).await.status(), StatusCode::OK);
    }
    for path in ["/health/live", "/metrics", "/openapi.yaml", "/openapi.json"] {
        assert_eq!(
            server.send(server.get(path)).await.status(),
            StatusCode::OK,
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_path_answers_404_and_a_wrong_method_405_with_allow() {
    let server = toy(&[]).await;
    for (path, words) in [
        (
            "/v1/captions",
            "there is no `/v1/captions`; did you mean `POST /v1/caption`? /docs lists all routes",
        ),
        ("/doc", "did you mean `GET /docs`?"),
        (
            "/robots.txt",
            "there is no `/robots.txt`; /docs lists all routes",
        ),
    ] {
        let answer = read(server.send(server.get(path)).await).await;
        assert_problem(&answer, 404, "not_found", words);
    }
    for (path, allowed) in [("/v1/caption", "POST"), ("/health/live", "GET,HEAD")] {
        let request = match allowed {
            "POST" => server.get(path),
            _ => server.post(path),
        };
        let response = server.send(request).await;
        assert_eq!(response.headers()["allow"], allowed);
        let (status, problem) = read(response).await;
        assert_eq!(
            (status.as_u16(), &problem["code"]),
            (405, &json!("method_not_allowed"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_request_id_is_kept_and_another_replaced() {
    let server = toy(&[]).await;
    let ask = async |id: &str| {
        let request = server.get("/health/live").header("x-request-id", id);
        let response = server.send(request).await;
        response.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(ask("trace-17").await, "trace-17");
    let made = ask("has spaces").await;
    assert_eq!(made.len(), 36);
    assert_ne!(ask("has spaces").await, made);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_is_listed_under_each_of_its_names() {
    let server = toy(&[]).await;
    let (status, list) = read(server.send(server.get("/v1/models")).await).await;
    assert_eq!(status, StatusCode::OK);
    let created = list["data"][0]["created"].as_u64().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(
        (created..created + 60).contains(&now.as_secs()),
        "{created}"
    );
    let named = |name: &str| {
        let mut model = json!({
            "id": name, "object": "model", "created": created,
            "owned_by": "paligemma-server", "status": "ready", "loaded": 1.0,
            "tasks": ["caption", "vqa", "ocr", "detect"], "image_size": 28, "image_tokens": 4, "context": 4096,
            "dtype": "f32", "device": "cpu",
            "build": {"version": env!("CARGO_PKG_VERSION"), "cuda": cfg!(feature = "cuda")}});
        if cfg!(target_arch = "x86_64") {
            model["instructions"] = Instructions::chosen().to_string().into();
        }
        model
    };
    let both = [named(CHECKPOINT), named(ALIAS)];
    assert_eq!(list, json!({"object": "list", "data": both}));
    for name in [CHECKPOINT, ALIAS] {
        let found = read(server.send(server.get(&format!("/v1/models/{name}"))).await).await;
        assert_eq!(found, (StatusCode::OK, named(name)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_served_answers_404() {
    let server = toy(&[]).await;
    for path in ["/v1/models/owner/name", "/v1/models/owner%2Fname"] {
        let answer = read(server.send(server.get(path)).await).await;
        let words = format!("no model `owner/name`; the one that is served is `{CHECKPOINT}`");
        assert_problem(&answer, 404, "model_not_found", &words);
    }
}

async fn metrics(server: &Server) -> String {
    let response = server.send(server.get("/metrics")).await;
    response.text().await.unwrap()
}

fn value(metrics: &str, series: &str) -> Option<f64> {
    let mut samples = metrics.lines().filter_map(|line| line.rsplit_once(' '));
    let (_, value) = samples.find(|(found, _)| *found == series)?;
    value.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_route_and_status_and_only_those_that_came() {
    let server = toy(&[]).await;
    let of = |route: &str, status: u16| {
        format!(
            "paligemma_http_requests_total{{method=\"GET\",route=\"{route}\",status=\"{status}\"}}"
        )
    };
    server.send(server.get("/no/such/path")).await;
    server.send(server.get("/playground.js")).await;
    server.send(server.get("/docs/swagger-ui.css")).await;
    let before = metrics(&server).await;
    server.send(server.get("/no/such/path")).await;
    // Other tests of this process count in the same series.
    assert!(value(&metrics(&server).await, &of("none", 404)) > value(&before, &of("none", 404)));
    // A page's files count as the page.
    for route in ["/", "/docs"] {
        assert!(value(&before, &of(route, 200)) > Some(0.0), "{route}");
    }
    let counts = before
        .lines()
        .filter(|line| line.starts_with("paligemma_http_requests_total{"));
    let zero: Vec<_> = counts.filter(|line| line.ends_with(" 0")).collect();
    assert!(zero.is_empty(), "{zero:?}");
    for route in ["/playground.js", "/no/such/path", "/docs/{*file}"] {
        assert!(!before.contains(&format!("route=\"{route}\"")), "{route}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_sorted_and_tell_of_the_build_the_load_and_the_process() {
    let server = toy(&[]).await;
    let text = metrics(&server).await;
    let names: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(names.is_sorted(), "{names:?}");

    let build = text
        .lines()
        .find(|line| line.starts_with("paligemma_build_info{"));
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(build.is_some_and(|build| build.contains(&version) && build.ends_with("} 1")));
    for series in [
        "paligemma_model_load_seconds",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    ] {
        assert!(value(&text, series) > Some(0.0), "{series} in {text}");
        assert!(text.contains(&format!("# HELP {series} ")), "{series}");
    }
    // In whole seconds, which a quick test does not take.
    assert!(
        value(&text, "process_cpu_seconds_total").is_some(),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_is_served_as_it_is_published() {
    let server = toy(&[]).await;
    let response = server.send(server.get("/openapi.yaml")).await;
    assert_eq!(response.headers()["content-type"], "application/yaml");
    let text = response.text().await.unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.yaml");
    assert!(text == std::fs::read_to_string(path).unwrap());
    let document: Value = serde_yaml_ng::from_str(&text).unwrap();
    let (status, as_json) = read(server.send(server.get("/openapi.json")).await).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(as_json, document);
    for path in ["/v1/caption", "/v1/vqa", "/v1/generate"] {
        let responses = document["paths"][path]["post"]["responses"]
            .as_object()
            .unwrap();
        let statuses: Vec<_> = responses.keys().map(String::as_str).collect();
        let expected = [
            "200", "400", "401", "404", "408", "413", "415", "422", "429", "500", "503", "504",
        ];
        assert_eq!(statuses, expected, "{path}");
        let types = responses["200"]["content"].as_object().unwrap();
        assert!(types.contains_key("application/json") && types.contains_key("text/event-stream"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_origins_may_send_requests_from_a_browser() {
    let server = toy(&[
        ("cors_origins", "https://app.example.org"),
        ("api_keys", "k"),
    ])
    .await;
    for (origin, allowed) in [
        ("https://app.example.org", true),
        ("https://evil.example", false),
    ] {
        let url = format!("http://{}/v1/caption", server.address);
        // The browser's question before the request carries no key.
        let preflight = http_client::builder()
            .build()
            .unwrap()
            .request(Method::OPTIONS, url)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .send()
            .await
            .unwrap();
        assert_eq!(preflight.status(), StatusCode::OK);
        let header = preflight.headers().get("access-control-allow-origin");
        assert_eq!(header.is_some(), allowed, "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_answered_while_the_model_is_being_fetched() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (fetched, fetching) = tokio::sync::oneshot::channel::<()>();
    let settings = Settings::load(None, [], BTreeMap::new()).unwrap();
    let waiting =
        tokio::spawn(async move { server::meanwhile(listener, &settings, fetching).await });

    let get = |path: &str| reqwest::get(format!("http://{address}{path}"));
    for path in ["/health/live", "/healthz"] {
        assert_eq!(get(path).await.unwrap().status(), StatusCode::OK);
    }
    let metrics = get("/metrics").await.unwrap().text().await.unwrap();
    assert!(metrics.ends_with("\npaligemma_ready 0\n"), "{metrics}");
    for path in ["/health/ready", "/v1/models", "/"] {
        let response = get(path).await.unwrap();
        assert!(response.headers().contains_key("retry-after"));
        assert_problem(&read(response).await, 503, "loading", "being fetched");
    }
    // A client that says nothing does not hold the start up.
    let silent = TcpStream::connect(address).await.unwrap();
    fetched.send(()).unwrap();
    let (listener, done) = waiting.await.unwrap().unwrap();
    done.unwrap();
    // The socket has been open all the time: who connects now is accepted by whoever serves next.
    let mut late = TcpStream::connect(address).await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    accepted.write_all(b"served").await.unwrap();
    drop(accepted);
    let mut text = String::new();
    late.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "served");
    drop(silent);
}
