//! The demo through the routes: what it says of the example pictures is true.

use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::server::{Server, read};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images");

fn example(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(EXAMPLES).join(name)).unwrap()
}

/// What was drawn: `name` and `box` of each shape, from left to right, with the picture's size.
fn drawn(name: &str) -> Value {
    let scenes: Value = serde_json::from_slice(&example("scenes.json")).unwrap();
    scenes[name].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn captions_name_what_is_drawn_in_any_format_and_orientation() {
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
async fn questions_about_number_colour_and_shape_have_true_answers() {
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
async fn boxes_lie_on_the_shapes_that_were_asked_for() {
    let server = Server::demo(&[]).await;
    for name in ["red-circle.png", "circle-and-square.jpg", "wide.png"] {
        let scene = drawn(name);
        for shape in scene["shapes"].as_array().unwrap() {
            let wanted = shape["name"].as_str().unwrap();
            let image = BASE64_STANDARD.encode(example(name));
            let body = json!({"image": image, "prompt": format!("detect {wanted}")});
            let (status, answer) = server.json("/v1/generate", &body).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            let text = answer["results"][0]["text"].as_str().unwrap();
            assert!(text.ends_with(wanted), "{name}: {text}");
            let overlap = overlap(located(text, &scene), drawn_box(shape));
            assert!(
                overlap > 0.5,
                "{name}: {text} overlaps {wanted} by {overlap}"
            );
        }
    }
}

/// The box at the start of an answer, as `[x0, y0, x1, y1]` in the scene's pixels.
fn located(text: &str, scene: &Value) -> [f64; 4] {
    let corner = |index: usize| -> f64 {
        let token = &text[index * 9..][..9];
        token["<loc".len()..8].parse::<f64>().unwrap() / 1023.0
    };
    let (width, height) = (
        scene["width"].as_f64().unwrap(),
        scene["height"].as_f64().unwrap(),
    );
    [
        corner(1) * width,
        corner(0) * height,
        corner(3) * width,
        corner(2) * height,
    ]
}

fn drawn_box(shape: &Value) -> [f64; 4] {
    ["x0", "y0", "x1", "y1"].map(|side| shape["box"][side].as_f64().unwrap())
}

/// Intersection over union.
fn overlap(a: [f64; 4], b: [f64; 4]) -> f64 {
    let area = |[x0, y0, x1, y1]: [f64; 4]| (x1 - x0).max(0.0) * (y1 - y0).max(0.0);
    let shared = area([
        a[0].max(b[0]),
        a[1].max(b[1]),
        a[2].min(b[2]),
        a[3].min(b[3]),
    ]);
    shared / (area(a) + area(b) - shared)
}
