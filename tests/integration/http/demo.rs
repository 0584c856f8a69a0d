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

/// What was drawn: `name` and `box` of each shape, from left to right, with the picture's size.
fn drawn(name: &str) -> Value {
    let scenes: Value = serde_json::from_slice(&example("scenes.json")).unwrap();
    scenes[name].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn captions_describe_the_picture_in_any_format_and_orientation() {
    let server = Server::demo(&[]).await;
    for name in [
        "red-circle.png",
        "circle-and-square.jpg",
        "tall.webp",
        "exif-rotated.jpg",
    ] {
        let image = Part::bytes(example(name)).file_name(name);
        let form = Form::new().part("image", image).text("length", "short");
        let request = server.post("/v1/caption").multipart(form);
        let (status, answer) = read(server.send(request).await).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let caption = answer["results"][0]["caption"].as_str().unwrap();
        for shape in drawn(name)["shapes"].as_array().unwrap() {
            let shape = shape["name"].as_str().unwrap();
            assert!(caption.contains(shape), "no {shape} in {name}: {caption}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_number_colour_and_shape_are_answered_correctly() {
    let server = Server::demo(&[]).await;
    for (name, asked) in [
        (
            "red-circle.png",
            [
                ("how many shapes are there?", "1"),
                ("what color is the circle?", "red"),
            ],
        ),
        (
            "circle-and-square.jpg",
            [
                ("how many shapes are there?", "2"),
                ("what shape is blue?", "square"),
            ],
        ),
        (
            "three-hearts.png",
            [
                ("how many hearts are there?", "3"),
                ("is there a star?", "no"),
            ],
        ),
    ] {
        let questions = asked.map(|(question, _)| question);
        let body = json!({"image": BASE64_STANDARD.encode(example(name)), "questions": questions});
        let (status, answer) = server.json("/v1/vqa", &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        for (index, (question, expected)) in asked.into_iter().enumerate() {
            assert_eq!(
                answer["results"][index]["answer"], expected,
                "{name}: {question}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_enclose_the_requested_shapes() {
    let server = Server::demo(&[]).await;
    for name in [
        "red-circle.png",
        "circle-and-square.jpg",
        "exif-rotated.jpg",
    ] {
        for shape in drawn(name)["shapes"].as_array().unwrap() {
            let image = BASE64_STANDARD.encode(example(name));
            let body = json!({"image": image, "objects": [shape["name"]]});
            let (status, answer) = server.json("/v1/detect", &body).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            let found = answer["results"][0]["objects"].as_array().unwrap();
            assert_eq!(found.len(), 1, "{name}: {answer}");
            assert_eq!(found[0]["label"], shape["name"]);
            let overlap = overlap(&found[0]["box"], &shape["box"]);
            assert!(overlap > 0.5, "{name}: {} overlaps by {overlap}", found[0]);
        }
    }
}

/// Intersection over union of two boxes.
fn overlap(a: &Value, b: &Value) -> f64 {
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
