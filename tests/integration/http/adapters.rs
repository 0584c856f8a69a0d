//! LoRA adapters as clients meet them.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use paligemma_test_support::golden::{Case, Golden};
use paligemma_test_support::server::{Server, assert_problem, read};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::http::picture;

const BASE: &str = "pg1-hub";
const SIDE: u32 = 224;

/// The base, and the adapters that were trained on it.
fn goldens() -> (Golden, Vec<Golden>) {
    let base = Golden::all().into_iter().find(|it| it.name() == BASE);
    let mut adapters = Golden::adapters();
    adapters.retain(|it| it.base == BASE);
    (base.unwrap(), adapters)
}

async fn server(base: &Golden, adapters: &[Golden], settings: &[(&str, &str)]) -> Server {
    let named = adapters
        .iter()
        .map(|it| format!("{}={}", it.name(), it.folder.display()));
    let named = named.collect::<Vec<_>>().join(",");
    let own = [
        ("model", base.folder.to_str().unwrap()),
        ("served_model_name", BASE),
        ("adapter", named.as_str()),
    ];
    Server::golden(&[&own, settings].concat()).await
}

fn body(base: &Golden, case: &Case, model: &str) -> Value {
    let image = picture::png_of(SIDE, base.pixels(case.image));
    let image = BASE64_STANDARD.encode(image);
    json!({"image": image, "prompt": case.prompt, "max_tokens": 24, "model": model})
}

/// Whether the reference's answer is one that a server gives, too: it went on after <eos> (1).
fn comparable(case: &Case) -> bool {
    let margin = case.margins.iter().copied().fold(f32::INFINITY, f32::min);
    margin > 1e-3 && !case.tokens.contains(&1)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_run_together_are_answered_by_the_adapters_that_they_name() {
    let (base, adapters) = goldens();
    let server = server(&base, &adapters, &[]).await;
    let all = adapters.iter().chain([&base]);
    let asked: Vec<_> = all
        .flat_map(|golden| golden.cases.iter().map(move |case| (golden.name(), case)))
        .filter(|(_, case)| comparable(case))
        .collect();
    assert!(asked.len() > 25, "{}", asked.len());
    let answers = asked.iter().map(async |(name, case)| {
        let body = body(&base, case, name);
        server.json("/v1/generate", &body).await
    });
    let answers = futures::future::join_all(answers).await;
    for ((name, case), (status, answer)) in asked.iter().zip(answers) {
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["model"], json!(name));
        assert_eq!(answer["results"][0]["text"], case.text, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_are_listed_with_their_parent_and_unknown_ones_are_refused() {
    let (base, adapters) = goldens();
    let server = server(&base, &adapters[..2], &[]).await;
    let (_, list) = read(server.send(server.get("/v1/models")).await).await;
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(
        (&ids[0]["id"], &ids[0]["parent"]),
        (&json!(BASE), &Value::Null)
    );
    for (listed, golden) in ids[1..].iter().zip(&adapters) {
        assert_eq!(listed["id"], json!(golden.name()));
        assert_eq!(listed["parent"], json!(BASE));
    }
    let path = format!("/v1/models/{}", adapters[1].name());
    let (status, one) = read(server.send(server.get(&path)).await).await;
    assert_eq!((status, &one), (StatusCode::OK, ids[2]));

    let body = body(&base, &base.cases[0], "nobody");
    let refused = server.json("/v1/generate", &body).await;
    assert_problem(&refused, 404, "model_not_found", &adapters[0].name());
    assert_eq!(refused.1["param"], "model");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_openai_name_an_adapter_as_their_model() {
    let (base, adapters) = goldens();
    let server = server(&base, &adapters, &[]).await;
    let image = picture::png_of(SIDE, base.pixels(0));
    let url = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(image));
    let mut answers = Vec::new();
    for name in [BASE.to_owned(), adapters[0].name(), adapters[1].name()] {
        let message = json!([
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": "caption en"},
        ]);
        let body = json!({
            "model": name, "max_tokens": 8,
            "messages": [{"role": "user", "content": message}],
        });
        let (status, answer) = server.json("/v1/chat/completions", &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["model"], json!(name));
        answers.push(answer["choices"][0]["message"]["content"].clone());
    }
    assert!(answers[0] != answers[1] && answers[1] != answers[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_come_and_go_while_others_are_answered() {
    let (base, adapters) = goldens();
    let root = adapters[0].folder.parent().unwrap().to_str().unwrap();
    let admin = [
        ("adapter_admin", "true"),
        ("adapter_dir", root),
        ("adapter_admin_keys", "of-the-operator"),
        ("max_adapters", "2"),
    ];
    let server = server(&base, &adapters[..1], &admin).await;
    let (came, case) = (&adapters[1], &adapters[1].cases[0]);
    let call = async |path: &str, body: Value, key: &str| {
        let request = server.post(path).bearer_auth(key).json(&body);
        server.send(request).await
    };
    let load = json!({"lora_name": "came", "lora_path": came.name()});
    let (path, key) = ("/v1/load_lora_adapter", "of-the-operator");
    let refused = read(call(path, load.clone(), "of-a-client").await).await;
    assert_problem(&refused, 401, "unauthorized", "");

    for (name, path_of_it, words) in [
        ("out", "../model/pg1-hub", "inside of adapter_dir"),
        ("out", "/etc", "inside of adapter_dir"),
        ("no folder", "refused", "can't be an adapter's name"),
        ("dora", "refused/dora", "use_dora"),
        (
            adapters[0].name().as_str(),
            came.name().as_str(),
            "two adapters",
        ),
    ] {
        let body = json!({"lora_name": name, "lora_path": path_of_it});
        let refused = read(call(path, body, key).await).await;
        assert_problem(&refused, 400, "invalid_adapter", words);
    }

    assert_eq!(call(path, load, key).await.status(), StatusCode::OK);
    let asked = body(&base, case, "came");
    let (status, answer) = server.json("/v1/generate", &asked).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    if comparable(case) {
        assert_eq!(answer["results"][0]["text"], case.text);
    }
    let third = json!({"lora_name": "third", "lora_path": came.name()});
    let refused = read(call(path, third, key).await).await;
    assert_problem(&refused, 400, "invalid_adapter", "max_adapters");

    // What runs goes on to its end; what comes later is refused.
    let running: Vec<_> = (0..4)
        .map(|_| server.json("/v1/generate", &asked))
        .collect();
    let unload = call("/v1/unload_lora_adapter", json!({"lora_name": "came"}), key);
    let (running, unloaded) = futures::join!(futures::future::join_all(running), unload);
    assert_eq!(unloaded.status(), StatusCode::OK);
    for (status, answer) in running {
        match status {
            StatusCode::OK if comparable(case) => {
                assert_eq!(answer["results"][0]["text"], case.text);
            }
            StatusCode::OK => {}
            status => assert_eq!(status, StatusCode::NOT_FOUND, "{answer}"),
        }
    }
    let gone = server.json("/v1/generate", &asked).await;
    assert_problem(&gone, 404, "model_not_found", "came");
    let again = call("/v1/unload_lora_adapter", json!({"lora_name": "came"}), key);
    assert_problem(&read(again.await).await, 404, "model_not_found", "came");
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_are_not_loaded_unless_the_operator_allows_it() {
    let (base, adapters) = goldens();
    let server = server(&base, &adapters[..1], &[]).await;
    let body = json!({"lora_name": "came", "lora_path": adapters[1].name()});
    let request = server.post("/v1/load_lora_adapter").json(&body);
    let refused = read(server.send(request).await).await;
    assert_problem(&refused, 404, "not_found", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_the_adapters_of_requests() {
    let (base, adapters) = goldens();
    let server = server(&base, &adapters[..1], &[]).await;
    let asked = body(&base, &adapters[0].cases[0], &adapters[0].name());
    let (status, _) = server.json("/v1/generate", &asked).await;
    assert_eq!(status, StatusCode::OK);
    let metrics = server.send(server.get("/metrics")).await;
    let metrics = metrics.text().await.unwrap();
    let info = "vllm:lora_requests_info{max_lora=\"16\",running_lora_adapters=\"";
    assert!(metrics.contains(info), "{metrics}");
}

/// A prompt about a picture of the examples, and PEFT's answers on transformers.
#[derive(serde::Deserialize)]
struct Counted {
    image: String,
    prompt: String,
    base: String,
    adapter: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_counts_with_its_adapter_while_the_base_goes_on_naming() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let bytes_of = |path: String| std::fs::read(root.join(path)).unwrap();
    let golden = bytes_of("tests/goldens/adapters/demo-counting.json".to_owned());
    let golden: Vec<Counted> = serde_json::from_slice(&golden).unwrap();
    assert!(golden.len() > 15);
    let adapter = format!("counting={}", root.join("models/demo-counting").display());
    let server = Server::demo(&[
        ("adapter", &adapter),
        ("dtype", "f32"),
        ("served_model_name", "demo"),
    ])
    .await;
    let asked: Vec<_> = golden
        .iter()
        .flat_map(|it| [(it, "demo", &it.base), (it, "counting", &it.adapter)])
        .collect();
    let answers = asked.iter().map(async |(it, model, _)| {
        let image = BASE64_STANDARD.encode(bytes_of(format!("examples/images/{}", it.image)));
        let body = json!({"image": image, "prompt": it.prompt, "model": model});
        server.json("/v1/generate", &body).await
    });
    let answers = futures::future::join_all(answers).await;
    for ((it, model, text), (status, answer)) in asked.iter().zip(answers) {
        assert_eq!(status, StatusCode::OK, "{answer}");
        let answered = &answer["results"][0]["text"];
        assert_eq!(answered, *text, "{model}, {}, {}", it.image, it.prompt);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_says_which_adapter_was_merged_into_it() {
    let counting = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo-counting");
    let server = Server::demo(&[("merge_adapter", counting)]).await;
    let (_, list) = read(server.send(server.get("/v1/models")).await).await;
    assert_eq!(list["data"][0]["merged_adapter"], "demo-counting");
    let server = Server::demo(&[]).await;
    let (_, list) = read(server.send(server.get("/v1/models")).await).await;
    assert!(list["data"][0].get("merged_adapter").is_none(), "{list}");
}
