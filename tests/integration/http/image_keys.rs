//! Images that are sent once and named afterwards.

use base64::prelude::{BASE64_STANDARD, Engine};
use futures::StreamExt;
use paligemma_test_support::server::{Server, assert_problem, read};
use reqwest::multipart::{Form, Part};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::http::picture;
use crate::http::sse::events;

/// SHA-256, as a client computes it.
fn key_of(file: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, file);
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// The answer's header, status and body.
async fn ask(server: &Server, request: RequestBuilder) -> (Option<String>, (StatusCode, Value)) {
    let response = server.send(request).await;
    let key = response.headers().get("x-image-key");
    let key = key.map(|key| key.to_str().unwrap().to_owned());
    (key, read(response).await)
}

async fn ask_json(
    server: &Server,
    path: &str,
    body: &Value,
) -> (Option<String>, (StatusCode, Value)) {
    ask(server, server.post(path).json(body)).await
}

fn results(answer: &(StatusCode, Value)) -> &Value {
    assert_eq!(answer.0, StatusCode::OK, "{}", answer.1);
    &answer.1["results"]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_tells_its_images_key_and_the_key_stands_for_the_image() {
    let server = Server::golden(&[]).await;
    let file = picture::png_sized(40, 30);
    let key = key_of(&file);
    let base64 = BASE64_STANDARD.encode(&file);

    let body = json!({"image": base64, "objects": ["cat"], "max_tokens": 8});
    let (told, by_image) = ask_json(&server, "/v1/detect", &body).await;
    assert_eq!(told.as_deref(), Some(key.as_str()));
    let body = json!({"image_key": key, "objects": ["cat"], "max_tokens": 8});
    let (told, by_key) = ask_json(&server, "/v1/detect", &body).await;
    assert_eq!(told.as_deref(), Some(key.as_str()));
    assert_eq!(results(&by_key), results(&by_image));

    let form = Form::new().text("image_key", key.clone());
    let form = form.text("objects", "cat").text("max_tokens", "8");
    let (_, by_form) = ask(&server, server.post("/v1/detect").multipart(form)).await;
    assert_eq!(results(&by_form), results(&by_image));

    let prompt = json!({"type": "text", "text": "caption en"});
    let content = json!([prompt, {"type": "image_key", "image_key": key}]);
    let chat = json!({"messages": [{"role": "user", "content": content}], "max_tokens": 4});
    let (told, (status, answer)) = ask_json(&server, "/v1/chat/completions", &chat).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(told.as_deref(), Some(key.as_str()));
    let completion = json!({"prompt": "caption en", "image_key": key, "max_tokens": 4});
    let (_, (status, answer)) = ask_json(&server, "/v1/completions", &completion).await;
    assert_eq!(status, StatusCode::OK, "{answer}");

    let body = json!({"image_key": key, "prompt": "caption en", "max_tokens": 4, "stream": true});
    let response = server.send(server.post("/v1/generate").json(&body)).await;
    assert_eq!(response.headers()["x-image-key"], key.as_str());
    let events: Vec<_> = events(response).collect().await;
    assert_eq!(events.last().unwrap().0, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_images_are_named_together() {
    let server = Server::golden(&[]).await;
    let files = [picture::png_sized(40, 30), picture::png_sized(30, 40)];
    let images = files.each_ref().map(|file| BASE64_STANDARD.encode(file));
    let keys = files.each_ref().map(|file| key_of(file));
    let body = json!({"images": images, "max_tokens": 4});
    let (told, by_image) = ask_json(&server, "/v1/caption", &body).await;
    assert_eq!(told, Some(keys.join(",")));
    let body = json!({"image_keys": keys, "max_tokens": 4});
    let (told, by_key) = ask_json(&server, "/v1/caption", &body).await;
    assert_eq!(told, Some(keys.join(",")));
    assert_eq!(results(&by_key), results(&by_image));

    // A form's images are in the order of its parts.
    let form = Form::new().text("image_key", keys[1].clone());
    let form = form.part("image", Part::bytes(files[0].clone()));
    let (told, answer) = ask(&server, server.post("/v1/caption").multipart(form)).await;
    assert_eq!(results(&answer).as_array().unwrap().len(), 2);
    let in_order = format!("{},{}", keys[1], keys[0]);
    assert_eq!(told, Some(in_order));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_here_is_not_found() {
    // Room for one image of 28 x 28 pixels.
    let server = Server::golden(&[("kept_images", "4kB")]).await;
    let files = [picture::png_sized(40, 30), picture::png_sized(30, 40)];
    let keys = files.each_ref().map(|file| key_of(file));
    let named = |key: &str| json!({"image_key": key, "max_tokens": 2});
    let unsent = server.json("/v1/caption", &named(&keys[0])).await;
    assert_problem(&unsent, 404, "image_not_cached", &keys[0]);
    assert_eq!(unsent.1["param"], "image_key");
    for file in &files {
        let body = json!({"image": BASE64_STANDARD.encode(file), "max_tokens": 2});
        assert_eq!(server.json("/v1/caption", &body).await.0, StatusCode::OK);
    }
    let gone = server.json("/v1/caption", &named(&keys[0])).await;
    assert_problem(&gone, 404, "image_not_cached", "send the image itself");
    let here = server.json("/v1/caption", &named(&keys[1])).await;
    assert_eq!(here.0, StatusCode::OK);

    let wrong = server.json("/v1/caption", &named("cat.png")).await;
    assert_problem(&wrong, 400, "invalid_field", "64 hexadecimal digits");
    let body = json!({"image_keys": [keys[1], 7]});
    let wrong = server.json("/v1/caption", &body).await;
    assert_problem(&wrong, 400, "invalid_field", "`image_keys[1]`");
    let none = server
        .json("/v1/caption", &json!({"image_key": null}))
        .await;
    assert_problem(&none, 400, "missing_field", "image_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_names_the_image_of_another_key() {
    let server = Server::golden(&[("api_keys", "first,second")]).await;
    let file = picture::png_sized(40, 30);
    let post = |key: &str, body: Value| {
        let request = server.post("/v1/caption").bearer_auth(key).json(&body);
        ask(&server, request)
    };
    let sent = json!({"image": BASE64_STANDARD.encode(&file), "max_tokens": 2});
    assert_eq!(post("first", sent).await.1.0, StatusCode::OK);
    let named = json!({"image_key": key_of(&file), "max_tokens": 2});
    assert_eq!(post("first", named.clone()).await.1.0, StatusCode::OK);
    let (_, others) = post("second", named).await;
    assert_problem(&others, 404, "image_not_cached", "not here");
}
