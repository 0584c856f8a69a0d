//! Bodies that are not what they should be.

use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::picture;
use paligemma_test_support::server::{Server, assert_problem, read};
use paligemma_test_support::toy_model::Control;

async fn server() -> Server {
    Server::toy(&Control::new().into(), &[]).await
}

/// Sends `body` as it is.
async fn post(server: &Server, path: &str, content_type: &str, body: &str) -> (StatusCode, Value) {
    let request = server
        .post(path)
        .header("content-type", content_type)
        .body(body.to_owned());
    read(server.send(request).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_broken_says_where() {
    let server = server().await;
    let answer = post(&server, "/v1/vqa", "application/json", "{\"image\":\n !}").await;
    assert_problem(&answer, 400, "invalid_json", "line 2");
    for (body, words) in [("", "EOF"), ("[]", "object"), ("\"text\"", "object")] {
        let answer = post(&server, "/v1/vqa", "application/json", body).await;
        assert_problem(&answer, 400, "invalid_json", words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_cut_off_is_refused() {
    let server = server().await;
    for (path, content_type, body) in [
        ("/v1/vqa", "application/json", "{\"question\":"),
        (
            "/v1/caption",
            "multipart/form-data; boundary=b",
            "--b\r\ncontent-disp",
        ),
    ] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {content_type}\r\n\
             content-length: 1000\r\n\r\n{body}"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        // The client's side ends here; it still listens.
        socket.shutdown().await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
        assert!(answer.contains("incomplete_body"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_without_its_end_is_refused() {
    let server = server().await;
    let body = "--b\r\ncontent-disposition: form-data; name=\"question\"\r\n\r\nwhat";
    let answer = post(&server, "/v1/vqa", "multipart/form-data; boundary=b", body).await;
    assert_problem(&answer, 400, "invalid_multipart", "");
    let answer = post(&server, "/v1/vqa", "multipart/form-data", body).await;
    assert_problem(&answer, 400, "invalid_multipart", "boundary");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_without_a_name_is_refused() {
    let server = server().await;
    let body = "--b\r\ncontent-disposition: form-data; name=\"question\"\r\n\r\nwhat?\r\n\
                --b\r\ncontent-disposition: form-data\r\n\r\nnameless\r\n--b--\r\n";
    let answer = post(&server, "/v1/vqa", "multipart/form-data; boundary=b", body).await;
    assert_problem(
        &answer,
        400,
        "invalid_multipart",
        "part 2 of the form has no name",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_all_named() {
    let server = server().await;
    let body = json!({"image": picture::base64(1), "question": "?", "colour": 1, "max_token": 2});
    let answer = server.json("/v1/vqa", &body).await;
    assert_problem(
        &answer,
        400,
        "unknown_field",
        "`colour`, `max_token`; allowed are `image`",
    );
    let form = Form::new().text("colour", "1").text("max_token", "2");
    let answer = read(server.send(server.post("/v1/vqa").multipart(form)).await).await;
    assert_problem(
        &answer,
        400,
        "unknown_field",
        "`colour`, `max_token`; allowed are `image`",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_an_unknown_field_is_refused_by_its_name() {
    let server = server().await;
    for field in ["file", "images"] {
        let form = Form::new()
            .part(field, Part::bytes(picture::png(1)).file_name("photo.png"))
            .text("question", "?");
        let answer = read(server.send(server.post("/v1/vqa").multipart(form)).await).await;
        let words = format!("`{field}`; allowed are `image`");
        assert_problem(&answer, 400, "unknown_field", &words);
    }
    // Where the field is known, and a text, its bytes matter.
    let form = Form::new().part("question", Part::bytes(picture::png(1)));
    let answer = read(server.send(server.post("/v1/vqa").multipart(form)).await).await;
    assert_problem(&answer, 400, "invalid_field", "`question` is not UTF-8");
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_fields_are_refused() {
    let server = server().await;
    let body = r#"{"question": "a?", "question": "b?"}"#;
    let answer = post(&server, "/v1/vqa", "application/json", body).await;
    assert_problem(&answer, 400, "repeated_field", "use `questions`");

    let form = Form::new()
        .part("image", Part::bytes(picture::png(1)))
        .text("question", "a?")
        .text("question", "b?");
    let answer = read(server.send(server.post("/v1/vqa").multipart(form)).await).await;
    assert_problem(
        &answer,
        400,
        "invalid_field",
        "`question`: sent 2 times, expected once; for several, use `questions`",
    );
    assert_eq!(answer.1["param"], "question");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_fields_and_wrong_types_name_the_field() {
    let server = server().await;
    let image = picture::base64(1);
    for (path, body, code, param) in [
        ("/v1/caption", json!({}), "missing_field", "image"),
        (
            "/v1/caption",
            json!({"images": []}),
            "missing_field",
            "image",
        ),
        (
            "/v1/vqa",
            json!({"image": image}),
            "missing_field",
            "question",
        ),
        (
            "/v1/generate",
            json!({"image": image}),
            "missing_field",
            "prompt",
        ),
        (
            "/v1/generate",
            json!({"image": 7, "prompt": ""}),
            "invalid_field",
            "image",
        ),
        (
            "/v1/caption",
            json!({"images": [image, 7]}),
            "invalid_field",
            "images[1]",
        ),
        (
            "/v1/caption",
            json!({"image": image, "length": "medium"}),
            "invalid_field",
            "length",
        ),
        (
            "/v1/caption",
            json!({"image": image, "max_tokens": "9"}),
            "invalid_field",
            "max_tokens",
        ),
        (
            "/v1/caption",
            json!({"image": image, "stop": 9}),
            "invalid_field",
            "stop",
        ),
        (
            "/v1/caption",
            json!({"image": image, "timeout": []}),
            "invalid_field",
            "timeout",
        ),
    ] {
        let answer = server.json(path, &body).await;
        assert_problem(&answer, 400, code, "");
        assert_eq!(answer.1["param"], param, "{}", answer.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_types_are_refused() {
    let server = server().await;
    let answer = post(
        &server,
        "/v1/vqa",
        "application/x-www-form-urlencoded",
        "a=b",
    )
    .await;
    assert_problem(
        &answer,
        415,
        "unsupported_media_type",
        "`application/x-www-form-urlencoded`",
    );
    let answer = read(server.send(server.post("/v1/vqa")).await).await;
    assert_problem(&answer, 415, "unsupported_media_type", "missing");
}
