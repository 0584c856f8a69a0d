//! Routes that serving platforms expect.

use paligemma_test_support::server::{ALIAS, CHECKPOINT, Server, assert_problem, read};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::http::picture;

async fn get(server: &Server, path: &str) -> (StatusCode, Value) {
    read(server.send(server.get(path)).await).await
}

fn instances(prompts: &[&str]) -> Value {
    let one = |(index, prompt): (usize, &&str)| {
        let image = picture::base64(40 * index as u8);
        json!({"prompt": prompt, "image": image})
    };
    json!({
        "instances": prompts.iter().enumerate().map(one).collect::<Vec<_>>(),
        "parameters": {"max_tokens": 6},
    })
}

/// What `/v1/generate` says to the same prompts.
async fn generated(server: &Server, asked: &Value) -> Vec<Value> {
    let mut texts = Vec::new();
    for instance in asked["instances"].as_array().unwrap() {
        let mut body = instance.clone();
        body["max_tokens"] = json!(6);
        let (status, answer) = server.json("/v1/generate", &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        texts.push(json!({"response": answer["results"][0]["text"]}));
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_not_there_unless_the_operator_turns_them_on() {
    let server = Server::golden(&[]).await;
    for path in ["/v2", "/v2/health/live", "/v2/models/x", "/ping"] {
        assert_problem(&get(&server, path).await, 404, "not_found", path);
    }
    let body = json!({"instances": []});
    let answer = server.json("/invocations", &body).await;
    assert_problem(&answer, 404, "not_found", "/invocations");
    let predict = format!("/v1/models/{ALIAS}:predict");
    let response = server.send(server.post(&predict).json(&body)).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(flavor = "multi_thread")]
async fn kserve_finds_health_and_models() {
    let server = Server::golden(&[("kserve_routes", "true")]).await;
    let (_, about) = get(&server, "/v2").await;
    assert_eq!(about["name"], "paligemma-server");
    assert_eq!(
        get(&server, "/v2/health/live").await.1,
        json!({"live": true})
    );
    assert_eq!(
        get(&server, "/v2/health/ready").await.1,
        json!({"ready": true})
    );
    for name in [CHECKPOINT, ALIAS] {
        let (status, model) = get(&server, &format!("/v2/models/{name}")).await;
        assert_eq!(status, StatusCode::OK, "{model}");
        assert_eq!(model["name"], CHECKPOINT);
        assert_eq!(model["inputs"][1]["name"], "image");
        let (_, ready) = get(&server, &format!("/v2/models/{name}/ready")).await;
        assert_eq!(ready, json!({"name": CHECKPOINT, "ready": true}));
    }
    for path in ["/v2/models/other", "/v2/models/other/ready"] {
        assert_problem(&get(&server, path).await, 404, "model_not_found", "`other`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn predictions_are_what_generate_says_in_the_order_of_the_instances() {
    let server = Server::golden(&[("kserve_routes", "true")]).await;
    let asked = instances(&["caption en", "answer en what?", "ocr"]);
    let path = format!("/v1/models/{ALIAS}:predict");
    let response = server.send(server.post(&path).json(&asked)).await;
    let keys = response.headers()["x-image-key"]
        .to_str()
        .unwrap()
        .to_owned();
    let (status, answer) = read(response).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        answer["predictions"],
        json!(generated(&server, &asked).await)
    );

    let keys: Vec<_> = keys.split(',').collect();
    assert_eq!(keys.len(), 3);
    let named = json!({
        "instances": [{"prompt": "ocr", "image_key": keys[2]}],
        "parameters": {"max_tokens": 6},
    });
    let (_, by_key) = server.json(&path, &named).await;
    assert_eq!(by_key["predictions"][0], answer["predictions"][2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_instances_are_named_with_their_place() {
    let server = Server::golden(&[("kserve_routes", "true"), ("max_images", "2")]).await;
    let path = format!("/v1/models/{ALIAS}:predict");
    let image = picture::base64(1);
    let good = json!({"prompt": "ocr", "image": image});
    for (body, code, param) in [
        (json!({}), "missing_field", "instances"),
        (json!({"instances": []}), "out_of_range", "instances"),
        (
            json!({"instances": [good, good, good]}),
            "out_of_range",
            "instances",
        ),
        (json!({"instances": "ocr"}), "invalid_field", "instances"),
        (
            json!({"instances": ["ocr"]}),
            "invalid_field",
            "instances[0]",
        ),
        (
            json!({"instances": [good, {"image": image}]}),
            "missing_field",
            "instances[1].prompt",
        ),
        (
            json!({"instances": [{"prompt": "ocr"}]}),
            "missing_field",
            "instances[0].image",
        ),
        (
            json!({"instances": [{"prompt": "ocr", "image": "!"}]}),
            "invalid_base64",
            "instances[0].image",
        ),
        (
            json!({"instances": [{"prompt": "ocr", "image": image, "seed": 1}]}),
            "unknown_field",
            "instances[0].seed",
        ),
        (
            json!({"instances": [good], "signature": 1}),
            "unknown_field",
            "signature",
        ),
        (
            json!({"instances": [good], "parameters": {"top_p": "x"}}),
            "invalid_field",
            "parameters.top_p",
        ),
        (
            json!({"instances": [good], "parameters": {"stream": true}}),
            "out_of_range",
            "parameters.stream",
        ),
        (
            json!({"instances": [good], "parameters": 1}),
            "invalid_field",
            "parameters",
        ),
    ] {
        let (status, problem) = server.json(&path, &body).await;
        assert!(status.is_client_error(), "{problem}");
        let found = (&problem["code"], &problem["param"]);
        assert_eq!(found, (&json!(code), &json!(param)), "{problem}");
    }
    let body = json!({"instances": [good]});
    let other = server.json("/v1/models/other:predict", &body).await;
    assert_problem(&other, 404, "model_not_found", "`other`");
    let verb = server.json("/v1/models/other:explain", &body).await;
    assert_problem(&verb, 404, "not_found", ":predict");
}

#[tokio::test(flavor = "multi_thread")]
async fn sagemaker_pings_and_invokes_by_what_the_body_holds() {
    let server = Server::golden(&[("sagemaker_routes", "true")]).await;
    let ping = server.send(server.get("/ping")).await;
    assert_eq!(ping.status(), StatusCode::OK);

    let asked = instances(&["caption en"]);
    let (_, predicted) = server.json("/invocations", &asked).await;
    assert_eq!(
        predicted["predictions"],
        json!(generated(&server, &asked).await)
    );

    let image = picture::base64(0);
    let generate = json!({"prompt": "caption en", "image": image, "max_tokens": 6});
    let (_, answer) = server.json("/invocations", &generate).await;
    assert_eq!(
        answer["results"][0]["text"],
        predicted["predictions"][0]["response"]
    );

    let url = format!("data:image/png;base64,{image}");
    let content = json!([
        {"type": "text", "text": "caption en"},
        {"type": "image_url", "image_url": {"url": url}},
    ]);
    let chat = json!({"messages": [{"role": "user", "content": content}], "max_tokens": 6});
    let (_, answer) = server.json("/invocations", &chat).await;
    let said = &answer["choices"][0]["message"]["content"];
    assert_eq!(*said, predicted["predictions"][0]["response"]);

    let none = server.json("/invocations", &json!({"image": image})).await;
    assert_problem(&none, 400, "missing_field", "one of `prompt`");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_guard_what_uses_the_model_and_leave_health_open() {
    let on = [("kserve_routes", "true"), ("sagemaker_routes", "true")];
    let server = Server::golden(&[&on[..], &[("api_keys", "secret")]].concat()).await;
    for path in ["/v2", "/v2/health/live", "/v2/health/ready", "/ping"] {
        assert_eq!(server.send(server.get(path)).await.status(), StatusCode::OK);
    }
    let asked = instances(&["ocr"]);
    let predict = format!("/v1/models/{ALIAS}:predict");
    for path in ["/invocations", &predict] {
        let refused = server.json(path, &asked).await;
        assert_problem(&refused, 401, "unauthorized", "key");
        let request = server.post(path).bearer_auth("secret").json(&asked);
        assert_eq!(server.send(request).await.status(), StatusCode::OK);
    }
    let model = get(&server, &format!("/v2/models/{ALIAS}")).await;
    assert_problem(&model, 401, "unauthorized", "key");
}
