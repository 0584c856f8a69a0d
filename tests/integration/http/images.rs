//! Images, in every way of sending them, and what is none.

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, Engine};
use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::http::picture;
use paligemma_test_support::server::{Server, assert_problem, read};
use paligemma_test_support::toy_model::Control;

async fn server(settings: &[(&str, &str)]) -> Server {
    Server::toy(&Arc::new(Control::new()), settings).await
}

async fn caption(server: &Server, image: &str) -> (StatusCode, Value) {
    let body = json!({"image": image, "max_tokens": 2});
    server.json("/v1/caption", &body).await
}

async fn upload(server: &Server, bytes: Vec<u8>) -> (StatusCode, Value) {
    let form = Form::new().part("image", Part::bytes(bytes).file_name("file"));
    read(
        server
            .send(server.post("/v1/caption").multipart(form))
            .await,
    )
    .await
}

#[track_caller]
fn assert_image_problem(answer: &(StatusCode, Value), status: u16, code: &str) {
    assert_problem(answer, status, code, "");
    assert!(answer.1["param"].as_str().unwrap().starts_with("image"));
}

#[tokio::test(flavor = "multi_thread")]
async fn base64_may_have_whitespace_no_padding_or_the_url_alphabet() {
    let server = server(&[]).await;
    let png = picture::png(77);
    let plain = BASE64_STANDARD.encode(&png);
    let (_, expected) = caption(&server, &plain).await;
    let lines: Vec<_> = plain
        .as_bytes()
        .chunks(60)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    for image in [
        lines.join("\r\n"),
        plain.trim_end_matches('=').to_owned(),
        BASE64_URL_SAFE.encode(&png),
        format!("data:image/png;base64,{plain}"),
    ] {
        let (status, answer) = caption(&server, &image).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(
            answer["results"][0]["caption"],
            expected["results"][0]["caption"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_base64_is_refused() {
    let server = server(&[]).await;
    assert_image_problem(&caption(&server, "photo.png").await, 400, "invalid_base64");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_url_of_another_type_is_refused() {
    let server = server(&[]).await;
    let url = format!("data:application/pdf;base64,{}", picture::base64(1));
    assert_image_problem(&caption(&server, &url).await, 415, "unsupported_media_type");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_unreadable_file_has_its_own_status() {
    let server = server(&[]).await;
    let mut damaged = picture::png(1);
    damaged.truncate(damaged.len() / 2);
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec();
    for (bytes, status, code) in [
        (
            b"The cow stands on the beach.\n".to_vec(),
            422,
            "not_an_image",
        ),
        (Vec::new(), 422, "image_empty"),
        (damaged, 422, "image_corrupt"),
        (heic, 415, "unsupported_image"),
    ] {
        assert_image_problem(&upload(&server, bytes).await, status, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_over_the_limits_is_refused() {
    let server = server(&[("max_image_side", "100"), ("max_image_pixels", "5000")]).await;
    for (width, height) in [(101, 10), (80, 80)] {
        let answer = upload(&server, picture::png_sized(width, height)).await;
        assert_image_problem(&answer, 413, "image_too_large");
    }
    let (status, _) = upload(&server, picture::png_sized(100, 50)).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_several_bad_images_is_named() {
    let server = server(&[]).await;
    let body = json!({"images": [picture::base64(1), "AAAA", "!"]});
    let (status, problem) = server.json("/v1/caption", &body).await;
    assert_eq!(
        (status.as_u16(), &problem["param"]),
        (422, &json!("images[1]"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn image_urls_are_fetched_from_listed_hosts_only() {
    let closed = server(&[]).await;
    let answer = caption(&closed, "https://example.org/cow.jpg").await;
    assert_image_problem(&answer, 422, "image_url_not_allowed");

    // Port 1 of loopback, where nothing listens: listed, so it is tried.
    let hosts = ("image_hosts", "127.0.0.1,localhost");
    let open = server(&[hosts, ("image_ports", "443,1")]).await;
    let answer = caption(&open, "https://127.0.0.1:1/cow.jpg").await;
    assert_image_problem(&answer, 422, "image_fetch_failed");
    for url in [
        "https://localhost/cow.jpg",
        "https://127.0.0.1:2/",
        "http://127.0.0.1/",
        "https://127.0.0.2/",
    ] {
        assert_image_problem(&caption(&open, url).await, 422, "image_url_not_allowed");
    }
}
