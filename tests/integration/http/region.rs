//! Captions of parts of an image, and questions to answers: how the model is asked.

use base64::prelude::{BASE64_STANDARD, Engine};
use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::http::picture;
use paligemma_test_support::server::{Server, assert_problem, read};

fn image() -> String {
    BASE64_STANDARD.encode(picture::png_sized(40, 30))
}

fn texts(answer: &Value, field: &str) -> Vec<String> {
    let results = answer["results"].as_array().unwrap().iter();
    let text = |result: &Value| result[field].as_str().unwrap().trim().to_owned();
    results.map(text).collect()
}

/// The whole picture is a cat, its upper right quarter a dog.
async fn captioned() -> Server {
    Server::scripted(&[
        ("caption <loc0000><loc0000><loc1023><loc1023>", "cat"),
        ("caption <loc0000><loc0512><loc0512><loc1023>", "dog"),
    ])
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_in_pixels_and_captioned_in_order() {
    let server = captioned().await;
    let boxes = json!([
        {"x0": 20, "y0": 0, "x1": 40, "y1": 15},
        {"x0": 0, "y0": 0, "x1": 40, "y1": 30},
    ]);
    let body = json!({"image": image(), "boxes": boxes});
    let (status, answer) = server.json("/v1/caption", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(texts(&answer, "caption"), ["dog", "cat"]);

    // What a client sends that fills in defaults.
    let body = json!({"image": image(), "box": boxes[1], "language": "en", "length": "normal"});
    let (_, answer) = server.json("/v1/caption", &body).await;
    assert_eq!(texts(&answer, "caption"), ["cat"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_gives_a_part_as_four_numbers() {
    let server = captioned().await;
    for (name, sent) in [
        ("box", &["20,0,40,15"][..]),
        ("boxes", &["20, 0, 40, 15.0", "0,0,40,30"]),
    ] {
        let part = Part::bytes(picture::png_sized(40, 30));
        let form = Form::new().part("image", part);
        let form = sent
            .iter()
            .fold(form, |form, text| form.text(name, text.to_string()));
        let request = server.post("/v1/caption").multipart(form);
        let (status, answer) = read(server.send(request).await).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(texts(&answer, "caption"), ["dog", "cat"][..sent.len()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_is_not_a_part_of_the_only_image_is_refused() {
    let server = captioned().await;
    let whole = json!({"x0": 0, "y0": 0, "x1": 40, "y1": 30});
    let outside = json!({"x0": 0, "y0": 0, "x1": 40.5, "y1": 30});
    for (fields, status, code, words) in [
        (
            json!({"image": image(), "boxes": [whole, outside]}),
            422,
            "out_of_range",
            "`boxes[1]` is 0,0,40.5,30; allowed is a part of the image, which is 40x30 pixels",
        ),
        (
            json!({"images": [image(), image()], "box": whole}),
            422,
            "out_of_range",
            "send one image",
        ),
        (
            json!({"image": image(), "box": whole, "length": "short"}),
            422,
            "out_of_range",
            "`length`: the model captions parts",
        ),
        (
            json!({"image": image(), "box": whole, "language": "de"}),
            422,
            "out_of_range",
            "`language`: the model captions parts",
        ),
        (
            json!({"image": image(), "box": [0, 0, 40, 30]}),
            400,
            "invalid_field",
            "`box`: a list; several boxes are sent as `boxes`",
        ),
        (
            json!({"image": image(), "boxes": [whole, {"x0": 0}]}),
            400,
            "invalid_field",
            "`boxes[1]`: `y0` is missing",
        ),
        (
            json!({"image": image(), "box": whole, "boxes": [whole]}),
            400,
            "repeated_field",
            "`box` and `boxes`",
        ),
    ] {
        let answer = server.json("/v1/caption", &fields).await;
        assert_problem(&answer, status, code, words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_can_be_requested_in_any_language() {
    let server = Server::scripted(&[
        ("question en cat", "dog"),
        ("question zh-Hant cat", "detect"),
        ("question zh-Hant dog", "cat"),
    ])
    .await;
    let body = json!({"image": image(), "answer": " cat\n"});
    let (status, answer) = server.json("/v1/question", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["object"], "question");
    assert_eq!(texts(&answer, "question"), ["dog"]);

    let body = json!({"image": image(), "answers": ["dog", "cat"], "language": "zh-Hant"});
    let (_, answer) = server.json("/v1/question", &body).await;
    assert_eq!(texts(&answer, "question"), ["cat", "detect"]);

    let answer = server
        .json("/v1/question", &json!({"image": image()}))
        .await;
    assert_problem(&answer, 400, "missing_field", "`answer` is required");
}
