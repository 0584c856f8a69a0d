//! OpenAI's routes: the same answers in another protocol.

use std::sync::Arc;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::http::held::decode;
use crate::http::picture;
use paligemma_test_support::server::{ALIAS, CHECKPOINT, Server};
use paligemma_test_support::toy_model::{Control, Fault};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const PROMPT: &str = "caption en";

fn url() -> String {
    format!("data:image/png;base64,{}", picture::base64(10))
}

fn chat(more: &Value) -> Value {
    let content = json!([
        {"type": "text", "text": PROMPT},
        {"type": "image_url", "image_url": {"url": url(), "detail": "auto"}},
    ]);
    let mut body = json!({
        "model": CHECKPOINT,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}],
        "max_tokens": 8,
    });
    merge(&mut body, more);
    body
}

fn completion(more: &Value) -> Value {
    let mut body = json!({"model": ALIAS, "prompt": PROMPT, "image": url(), "max_tokens": 8});
    merge(&mut body, more);
    body
}

fn merge(body: &mut Value, more: &Value) {
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
}

/// What the native route answers to the same prompt.
async fn native(server: &Server) -> Value {
    let body = json!({"image": url(), "prompt": PROMPT, "max_tokens": 8, "logprobs": 2});
    let (status, answer) = server.json("/v1/generate", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

async fn post(server: &Server, path: &str, body: &Value) -> (StatusCode, Value) {
    let response = server.send(server.post(path).json(body)).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    (response.status(), response.json().await.unwrap())
}

/// The `data:` lines of a stream, of which `[DONE]` has to be the last, and nothing but comments
/// beside them.
async fn chunks(server: &Server, path: &str, body: &Value) -> Vec<Value> {
    let response = server.send(server.post(path).json(body)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let mut data: Vec<&str> = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(':'))
    {
        data.push(
            line.strip_prefix("data: ")
                .unwrap_or_else(|| panic!("{line}")),
        );
    }
    assert_eq!(data.pop(), Some("[DONE]"));
    data.into_iter()
        .map(|chunk| serde_json::from_str(chunk).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_answers_like_the_native_route() {
    let server = Server::golden(&[]).await;
    let native = native(&server).await;
    let result = &native["results"][0];
    let more = json!({"logprobs": true, "top_logprobs": 2, "tools": [], "user": "me", "n": 1});
    let (status, answer) = post(&server, CHAT, &chat(&more)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], CHECKPOINT);
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    let choice = &answer["choices"][0];
    assert_eq!(
        choice["message"],
        json!({"role": "assistant", "content": result["text"]})
    );
    assert_eq!(choice["finish_reason"], result["finish_reason"]);
    let usage = &native["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    let prompt = count("image_tokens") + count("prompt_tokens");
    let completion = count("completion_tokens");
    let expected = json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    });
    assert_eq!(answer["usage"], expected);
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(tokens.len() as u64, completion);
    for (token, native) in tokens.iter().zip(result["logprobs"].as_array().unwrap()) {
        assert_eq!(
            (&token["token"], &token["logprob"]),
            (&native["token"], &native["logprob"])
        );
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_answers_like_the_native_route() {
    let server = Server::golden(&[]).await;
    let native = native(&server).await;
    let result = &native["results"][0];
    let (status, answer) = post(&server, COMPLETIONS, &completion(&json!({"logprobs": 1}))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["object"], "text_completion");
    let list = completion(&json!({"prompt": [PROMPT]}));
    let (_, of_list) = post(&server, COMPLETIONS, &list).await;
    assert_eq!(of_list["choices"][0]["text"], result["text"]);
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], result["text"]);
    assert_eq!(choice["finish_reason"], result["finish_reason"]);
    let tokens = choice["logprobs"]["tokens"].as_array().unwrap();
    assert_eq!(json!(tokens.len()), answer["usage"]["completion_tokens"]);
    assert_eq!(choice["logprobs"]["text_offset"][0], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_add_up_to_the_whole_answer() {
    let server = Server::golden(&[]).await;
    let (_, whole) = post(&server, CHAT, &chat(&json!({}))).await;
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let told = chunks(&server, CHAT, &chat(&more)).await;
    assert_eq!(
        told[0]["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    let text: String = told
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    let [.., last, usage] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(
        last["choices"][0]["finish_reason"],
        whole["choices"][0]["finish_reason"]
    );
    assert_eq!(
        (&usage["choices"], &usage["usage"]),
        (&json!([]), &whole["usage"])
    );
    for chunk in &told {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["id"], told[0]["id"]);
    }

    let told = chunks(&server, COMPLETIONS, &completion(&json!({"stream": true}))).await;
    let text: String = told
        .iter()
        .map(|chunk| chunk["choices"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    assert!(told.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_openais_error_objects() {
    let server = Server::golden(&[]).await;
    let text_only = json!({"messages": [{"role": "user", "content": "hello"}]});
    let audio = json!({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]});
    for (path, body, status, code, param) in [
        (
            CHAT,
            chat(&json!({"model": "gpt"})),
            404,
            "model_not_found",
            "model",
        ),
        (CHAT, chat(&json!({"n": 2})), 422, "out_of_range", "n"),
        (
            CHAT,
            chat(&json!({"temperature": 3})),
            422,
            "out_of_range",
            "temperature",
        ),
        (
            CHAT,
            chat(&json!({"stream": "yes"})),
            400,
            "invalid_field",
            "stream",
        ),
        (CHAT, chat(&text_only), 400, "missing_field", "messages"),
        (
            CHAT,
            chat(&audio),
            400,
            "invalid_field",
            "messages[0].content",
        ),
        (CHAT, json!({}), 400, "missing_field", "messages"),
        (
            COMPLETIONS,
            completion(&json!({"image": null})),
            400,
            "missing_field",
            "image",
        ),
        (
            COMPLETIONS,
            completion(&json!({"prompt": ["a", "b"]})),
            400,
            "invalid_field",
            "prompt",
        ),
        (
            COMPLETIONS,
            completion(&json!({"image": "%"})),
            400,
            "invalid_base64",
            "image",
        ),
    ] {
        let (found, answer) = post(&server, path, &body).await;
        let error = &answer["error"];
        assert_eq!(
            (found.as_u16(), &error["code"]),
            (status, &json!(code)),
            "{answer}"
        );
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(error["param"], param, "{answer}");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_mid_stream_is_an_error_object_without_done() {
    let control = Arc::new(Control::new());
    let server = Server::toy(&control, &[]).await;
    control.hold();
    let request = server
        .post(CHAT)
        .json(&chat(&json!({"stream": true, "max_tokens": 400})));
    let (response, ()) = tokio::join!(server.send(request), decode(&control, 5));
    control.fail(Fault::Error);
    control.open();
    let text = response.text().await.unwrap();
    let last = text
        .lines()
        .rfind(|line| line.starts_with("data: "))
        .unwrap();
    let error: Value = serde_json::from_str(&last["data: ".len()..]).unwrap();
    assert_eq!(error["error"]["type"], "server_error", "{text}");
    assert!(!text.contains("[DONE]"));
}
