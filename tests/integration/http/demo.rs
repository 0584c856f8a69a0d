//! The demo through the routes: what it says of the example pictures is true.

use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use paligemma_test_support::server::{Server, read};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images");

pub fn example(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(EXAMPLES).join(name)).unwrap()
}

const COLOURED: [&str; 11] = [
    "circle-and-square.jpg",
    "exif-rotated.jpg",
    "four-shapes.png",
    "gradient.jpg",
    "noisy.png",
    "red-circle.png",
    "small.gif",
    "tall.webp",
    "three-hearts.png",
    "transparent.png",
    "wide.png",
];

/// What was drawn: `name` and `box` of each shape, from left to right.
pub fn drawn(name: &str) -> Vec<Value> {
    let scenes: Value = serde_json::from_slice(&example("scenes.json")).unwrap();
    scenes[name]["shapes"].as_array().unwrap().clone()
}

fn base64(name: &str) -> String {
    BASE64_STANDARD.encode(example(name))
}

/// The results of a request that succeeds.
async fn results(server: &Server, path: &str, body: Value) -> Vec<Value> {
    let (status, answer) = server.json(path, &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer["results"].as_array().unwrap().clone()
}

/// `a red circle, a blue square and an orange star`
fn listed(shapes: &[Value]) -> String {
    let with_article = |shape: &Value| {
        let name = shape["name"].as_str().unwrap();
        let vowel = name.starts_with(['a', 'e', 'i', 'o', 'u']);
        format!("{} {name}", if vowel { "an" } else { "a" })
    };
    let names: Vec<String> = shapes.iter().map(with_article).collect();
    match names.split_last().unwrap() {
        (one, []) => one.clone(),
        (last, others) => format!("{} and {last}", others.join(", ")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn captions_describe_the_picture_in_any_format_and_orientation() {
    let server = Server::demo(&[]).await;
    for name in COLOURED {
        let image = Part::bytes(example(name)).file_name(name);
        let form = Form::new().part("image", image).text("length", "short");
        let request = server.post("/v1/caption").multipart(form);
        let (status, answer) = read(server.send(request).await).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let caption = &answer["results"][0]["caption"];
        assert_eq!(caption, &listed(&drawn(name)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_picture_is_captioned_alone() {
    let server = Server::demo(&[]).await;
    for name in ["circle-and-square.jpg", "tall.webp", "three-hearts.png"] {
        let shapes = drawn(name);
        let boxes: Vec<&Value> = shapes.iter().map(|shape| &shape["box"]).collect();
        let body = json!({"image": base64(name), "boxes": boxes});
        let captions = results(&server, "/v1/caption", body).await;
        assert_eq!(captions.len(), shapes.len(), "{name}");
        for (result, shape) in captions.iter().zip(&shapes) {
            let expected = listed(std::slice::from_ref(shape));
            assert_eq!(result["caption"], expected, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_number_colour_shape_place_and_size_are_answered_correctly() {
    let server = Server::demo(&[]).await;
    for (name, asked) in [
        (
            "red-circle.png",
            &[
                ("how many shapes are there?", "1"),
                ("what color is the circle?", "red"),
            ][..],
        ),
        (
            "circle-and-square.jpg",
            &[
                ("how many shapes are there?", "2"),
                ("what shape is blue?", "square"),
                ("where is the blue square?", "right"),
            ],
        ),
        (
            "three-hearts.png",
            &[
                ("how many hearts are there?", "3"),
                ("how many pink hearts are there?", "2"),
                ("is there a star?", "no"),
            ],
        ),
        (
            "four-shapes.png",
            &[
                ("how many shapes are there?", "4"),
                ("what colour is the star?", "yellow"),
                ("where is the orange circle?", "bottom right"),
                ("is there a red heart?", "no"),
                ("which is larger, the star or the circle?", "circle"),
            ],
        ),
        ("exif-rotated.jpg", &[("what shape is orange?", "square")]),
        (
            "grey.png",
            &[
                ("how many stars are there?", "1"),
                ("is there a circle?", "yes"),
            ],
        ),
    ] {
        let questions: Vec<&str> = asked.iter().map(|(question, _)| *question).collect();
        let body = json!({"image": base64(name), "questions": questions});
        let answers = results(&server, "/v1/vqa", body).await;
        for (result, (question, expected)) in answers.iter().zip(asked) {
            assert_eq!(result["answer"], *expected, "{name}: {question}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_found_for_an_answer() {
    let server = Server::demo(&[]).await;
    for (answer, question) in [
        ("circle", "what shape is red?"),
        ("blue", "what color is the square?"),
    ] {
        let body = json!({"image": base64("circle-and-square.jpg"), "answer": answer});
        let found = results(&server, "/v1/question", body).await;
        assert_eq!(found[0]["question"], question, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_enclose_the_requested_shapes() {
    let server = Server::demo(&[]).await;
    for name in COLOURED {
        for shape in drawn(name) {
            let named = |other: &Value| other["name"] == shape["name"];
            let expected: Vec<Value> = drawn(name).into_iter().filter(named).collect();
            let asked = json!([shape["name"]]);
            assert_found(&server, name, asked, &expected).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_of_several_shapes_come_in_the_order_asked() {
    let server = Server::demo(&[]).await;
    for name in [
        "circle-and-square.jpg",
        "tall.webp",
        "noisy.png",
        "four-shapes.png",
    ] {
        let mut expected = drawn(name);
        expected.reverse();
        let asked = expected.iter().map(|shape| shape["name"].clone()).collect();
        assert_found(&server, name, asked, &expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shapes_are_found_by_their_kind_alone() {
    let server = Server::demo(&[]).await;
    for (name, asked) in [
        ("four-shapes.png", json!(["shape"])),
        ("three-hearts.png", json!(["heart"])),
        ("grey.png", json!(["star", "circle"])),
    ] {
        assert_found(&server, name, asked, &drawn(name)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found() {
    let server = Server::demo(&[]).await;
    let asked = json!(["green star"]);
    assert_found(&server, "red-circle.png", asked, &[]).await;
    let asked = json!(["red circle", "green star"]);
    assert_found(&server, "red-circle.png", asked, &drawn("red-circle.png")).await;
}

/// Whether `/v1/detect` finds these shapes, in this order, and nothing else.
async fn assert_found(server: &Server, name: &str, asked: Value, expected: &[Value]) {
    let body = json!({"image": base64(name), "objects": asked});
    let answer = results(server, "/v1/detect", body).await.remove(0);
    assert_eq!(answer["dropped"], json!([]), "{name}");
    let found = answer["objects"].as_array().unwrap();
    assert_eq!(found.len(), expected.len(), "{name}, {asked}: {answer}");
    for (found, shape) in found.iter().zip(expected) {
        let label = found["label"].as_str().unwrap();
        let named = shape["name"].as_str().unwrap().ends_with(label) || label == "shape";
        assert!(named, "{name}, {asked}: {found} is not {shape}");
        let overlap = overlap(&found["box"], &shape["box"]);
        assert!(overlap > 0.9, "{name}: {found} overlaps by {overlap}");
    }
}

/// Intersection over union of two boxes.
pub fn overlap(a: &Value, b: &Value) -> f64 {
    let corners =
        |found: &Value| ["x0", "y0", "x1", "y1"].map(|side| found[side].as_f64().unwrap());
    let area = |[x0, y0, x1, y1]: [f64; 4]| (x1 - x0).max(0.0) * (y1 - y0).max(0.0);
    let (a, b) = (corners(a), corners(b));
    let shared = area([
        a[0].max(b[0]),
        a[1].max(b[1]),
        a[2].min(b[2]),
        a[3].min(b[3]),
    ]);
    shared / (area(a) + area(b) - shared)
}
