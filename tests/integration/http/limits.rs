//! How much one request may ask for.

use std::sync::Arc;

use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::picture;
use paligemma_test_support::server::{Server, assert_problem, read};
use paligemma_test_support::toy_model::{Control, IMAGE_TOKENS};

async fn server(settings: &[(&str, &str)]) -> Server {
    Server::toy(&Arc::new(Control::new()), settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_question_is_refused_and_an_empty_prompt_is_not() {
    let server = server(&[]).await;
    let image = picture::base64(1);
    let answer = server
        .json("/v1/vqa", &json!({"image": image, "question": " "}))
        .await;
    assert_problem(&answer, 422, "out_of_range", "`question` is empty");
    let body = json!({"image": image, "prompt": "", "max_tokens": 1});
    assert_eq!(server.json("/v1/generate", &body).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_100_kb_is_refused_with_the_numbers() {
    let server = server(&[("max_prompt_bytes", "10000")]).await;
    let body = json!({"image": picture::base64(1), "question": "x".repeat(100_000)});
    let answer = server.json("/v1/vqa", &body).await;
    assert_problem(
        &answer,
        422,
        "prompt_too_long",
        "100010 bytes long; at most 10000",
    );
    assert_eq!(answer.1["param"], "question");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_beyond_the_context_is_refused_with_the_numbers() {
    let server = server(&[("max_prompt_bytes", "1000000")]).await;
    let body = json!({"image": picture::base64(1), "prompt": "<loc0001>".repeat(5000)});
    let answer = server.json("/v1/generate", &body).await;
    assert_problem(&answer, 422, "prompt_too_long", "context of 4096 tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn max_tokens_must_be_at_least_1_and_fit_the_context() {
    let server = server(&[]).await;
    let ask = |max_tokens: i64| json!({"image": picture::base64(1), "prompt": "", "max_tokens": max_tokens});
    // The prompt is <bos> and the newline.
    let most = (4096 - IMAGE_TOKENS - 2) as i64;
    let words = format!("allowed is 1 to {most},");
    for value in [0, -1, most + 1] {
        let answer = server.json("/v1/generate", &ask(value)).await;
        assert_problem(&answer, 422, "out_of_range", &words);
        assert_eq!(answer.1["param"], "max_tokens");
    }
    assert_eq!(
        server.json("/v1/generate", &ask(most)).await.0,
        StatusCode::OK
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_of_max_tokens_gives_way_to_a_long_prompt() {
    let server = server(&[
        ("max_tokens_default", "100"),
        ("max_prompt_bytes", "1000000"),
    ])
    .await;
    // 4 image tokens, <bos>, 4040 tokens and the newline leave room for 50.
    let body = json!({"image": picture::base64(1), "prompt": "<loc0001>".repeat(4040)});
    let (status, answer) = server.json("/v1/generate", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["results"][0]["usage"]["completion_tokens"], 50);

    // Each prompt for itself: a short one beside it keeps all of the default. `answer en` is a part
    // of both, so the long one leaves a little less.
    let questions = ["<loc0001>".repeat(4030), "?".to_owned()];
    let body = json!({"image": picture::base64(1), "questions": questions});
    let (status, answer) = server.json("/v1/vqa", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let tokens = |index: usize| answer["results"][index]["usage"]["completion_tokens"].as_u64();
    assert!((1..100).contains(&tokens(0).unwrap()), "{:?}", tokens(0));
    assert_eq!(tokens(1), Some(100));
    // An answer whose length was named is not shortened.
    let mut body = body;
    body["max_tokens"] = json!(100);
    let refused = server.json("/v1/vqa", &body).await;
    assert_problem(&refused, 422, "out_of_range", "`max_tokens` is 100");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlong_list_is_refused_while_it_is_read() {
    let server = server(&[]).await;
    let body = |items: usize| format!("{{\"images\":[{}", vec!["\"\""; items].join(","));
    let post = async |body: String| {
        let request = server
            .post("/v1/caption")
            .header("content-type", "application/json")
            .body(body);
        read(server.send(request).await).await
    };
    // The end of the JSON is missing: with that many items, nobody gets to see that.
    let answer = post(body(30_000)).await;
    assert_problem(&answer, 400, "invalid_json", "more than 20000 values");
    assert_problem(&post(body(10_000)).await, 400, "invalid_json", "EOF");
    let answer = post(body(10_000) + "]}").await;
    assert_problem(&answer, 422, "too_many_images", "at most 16");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_images_than_a_route_takes_are_refused() {
    let server = server(&[("max_images", "2")]).await;
    let image = picture::base64(1);
    let answer = server
        .json("/v1/caption", &json!({"images": [image, image, image]}))
        .await;
    assert_problem(&answer, 422, "too_many_images", "at most 2");
    let form = (0..3).fold(Form::new(), |form, _| {
        form.part("image", Part::bytes(picture::png(1)))
    });
    let answer = read(
        server
            .send(server.post("/v1/caption").multipart(form))
            .await,
    )
    .await;
    assert_problem(&answer, 422, "too_many_images", "at most 2");
    let answer = server
        .json("/v1/vqa", &json!({"images": [image], "question": "?"}))
        .await;
    assert_problem(
        &answer,
        400,
        "unknown_field",
        "`images`; allowed are `image`",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_in_json_and_in_a_form() {
    let server = server(&[("max_body", "10kB")]).await;
    let body = json!({"image": "A".repeat(20_000)});
    let answer = server.json("/v1/caption", &body).await;
    assert_problem(&answer, 413, "body_too_large", "10000 bytes");

    // Chunked: the length shows only while it is read.
    for content_type in ["application/json", "multipart/form-data; boundary=b"] {
        let start = "--b\r\ncontent-disposition: form-data; name=\"image\"\r\n\r\n";
        let chunks = [start.to_owned(), "A".repeat(20_000)].map(Ok::<_, std::io::Error>);
        let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
        let request = server
            .post("/v1/caption")
            .header("content-type", content_type)
            .body(body);
        let response = server.send(request).await;
        assert_eq!(
            response.status(),
            StatusCode::PAYLOAD_TOO_LARGE,
            "{content_type}"
        );
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], "body_too_large", "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_busy_sending_still_reads_the_refusal() {
    let server = server(&[("max_body", "10kB")]).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let length = 30_000_000;
    let head = format!(
        "POST /v1/caption HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    // More than all buffers on the way hold: without a reader, this fails or hangs.
    socket.write_all(&vec![b' '; length]).await.unwrap();
    let mut answer = vec![0; 64];
    let read = socket.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 413 "));
}
