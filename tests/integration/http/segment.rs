//! Masks: what the demo marks in a drawing is what was drawn.

use std::sync::mpsc::channel;

use base64::prelude::{BASE64_STANDARD, Engine};
use futures::StreamExt;
use image::GrayImage;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::http::demo::{drawn, example, overlap};
use crate::http::sse::events;
use paligemma_test_support::server::{Server, assert_problem};

const SIDE: u32 = 320;
/// Of the only shape in `red-circle.png`: centre and radius.
const CIRCLE: (f64, f64, f64) = (160.0, 150.4, 64.0);

async fn segment(server: &Server, format: &str) -> Value {
    let body = json!({
        "image": BASE64_STANDARD.encode(example("red-circle.png")),
        "objects": ["red circle"],
        "mask_format": format,
    });
    let (status, answer) = server.json("/v1/segment", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let result = &answer["results"][0];
    assert_eq!(result["dropped"], json!([]), "{answer}");
    assert_eq!(result["objects"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(result["objects"][0]["label"], "red circle");
    result["objects"][0].clone()
}

fn png(mask: &Value) -> GrayImage {
    let bytes = BASE64_STANDARD.decode(mask.as_str().unwrap()).unwrap();
    image::load_from_memory(&bytes).unwrap().into_luma8()
}

fn area(mask: &GrayImage) -> usize {
    mask.pixels().filter(|pixel| pixel.0 == [255]).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_covers_the_circle_and_little_else() {
    let server = Server::demo(&[]).await;
    let object = segment(&server, "image").await;
    let mask = png(&object["mask"]);
    assert_eq!(mask.dimensions(), (SIDE, SIDE));
    let (mut both, mut either) = (0, 0);
    for (x, y, pixel) in mask.enumerate_pixels() {
        let (dx, dy) = (f64::from(x) + 0.5 - CIRCLE.0, f64::from(y) + 0.5 - CIRCLE.1);
        let (drawn, marked) = (dx.hypot(dy) < CIRCLE.2, pixel.0 == [255]);
        both += u32::from(drawn && marked);
        either += u32::from(drawn || marked);
    }
    let overlap = f64::from(both) / f64::from(either);
    assert!(overlap > 0.95, "{overlap}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_masks_lies_where_its_shape_was_drawn() {
    let server = Server::demo(&[]).await;
    let drawn = drawn("four-shapes.png");
    let names: Vec<&Value> = drawn.iter().map(|shape| &shape["name"]).collect();
    let body = json!({
        "image": BASE64_STANDARD.encode(example("four-shapes.png")),
        "objects": names,
    });
    let (status, answer) = server.json("/v1/segment", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let found = answer["results"][0]["objects"].as_array().unwrap();
    assert_eq!(found.len(), drawn.len(), "{found:?}");
    for (found, shape) in found.iter().zip(&drawn) {
        assert_eq!(found["label"], shape["name"]);
        let overlap = overlap(&bounds(&png(&found["mask"])), &shape["box"]);
        assert!(overlap > 0.75, "{} by {overlap}", found["label"]);
    }
}

/// The box around all that is marked.
fn bounds(mask: &GrayImage) -> Value {
    let (mut low, mut high) = ((u32::MAX, u32::MAX), (0, 0));
    for (x, y, pixel) in mask.enumerate_pixels() {
        if pixel.0 == [255] {
            low = (low.0.min(x), low.1.min(y));
            high = (high.0.max(x + 1), high.1.max(y + 1));
        }
    }
    json!({"x0": low.0, "y0": low.1, "x1": high.0, "y1": high.1})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_mask_can_be_as_large_as_the_box_or_run_length_encoded() {
    let server = Server::demo(&[]).await;
    let whole = area(&png(&segment(&server, "image").await["mask"]));

    let object = segment(&server, "box").await;
    let cropped = png(&object["mask"]);
    let edge = |name: &str| object["box"][name].as_f64().unwrap().round() as u32;
    let size = (edge("x1") - edge("x0"), edge("y1") - edge("y0"));
    assert_eq!((cropped.dimensions(), area(&cropped)), (size, whole));

    let mask = &segment(&server, "rle").await["mask"];
    assert_eq!(mask["size"], json!([SIDE, SIDE]));
    let runs = runs(mask["counts"].as_str().unwrap());
    assert_eq!(runs.iter().sum::<i64>(), i64::from(SIDE * SIDE));
    assert_eq!(runs.iter().skip(1).step_by(2).sum::<i64>(), whole as i64);
}

/// COCO's text form, read as `rleFrString` in its `maskApi.c` does.
fn runs(text: &str) -> Vec<i64> {
    let mut runs: Vec<i64> = Vec::new();
    let mut bytes = text.bytes().map(|byte| i64::from(byte - 48));
    while let Some(first) = bytes.next() {
        let (mut group, mut run, mut shift) = (first, 0, 0);
        loop {
            run |= (group & 0x1f) << shift;
            shift += 5;
            if group & 0x20 == 0 {
                break;
            }
            group = bytes.next().unwrap();
        }
        if group & 0x10 != 0 {
            run |= -1 << shift;
        }
        if runs.len() > 2 {
            run += runs[runs.len() - 2];
        }
        runs.push(run);
    }
    runs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_sends_the_object_with_its_mask_before_the_result() {
    let server = Server::demo(&[]).await;
    let body = json!({
        "image": BASE64_STANDARD.encode(example("red-circle.png")),
        "objects": ["red circle"],
        "stream": true,
    });
    let response = server.send(server.post("/v1/segment").json(&body)).await;
    let events: Vec<(String, Value)> = events(response).collect().await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[names.len() - 3..], ["object", "result", "done"]);
    let (object, result) = (&events[names.len() - 3].1, &events[names.len() - 2].1);
    assert!(object["mask"].as_str().unwrap().len() > 100);
    assert_eq!(object["mask"], result["objects"][0]["mask"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn decoding_a_mask_counts_against_the_deadline() {
    let server = Server::demo(&[("decode_threads", "1")]).await;
    let body = json!({
        "image": BASE64_STANDARD.encode(example("red-circle.png")),
        "max_tokens": 1,
    });
    let sent = server.send(server.post("/v1/caption").json(&body)).await;
    let key = sent.headers()["x-image-key"].to_str().unwrap();

    // From here on nothing is decoded. The image is there already; its mask is not.
    let (release, held) = channel::<()>();
    let (holds, is_held) = oneshot::channel();
    let preprocessor = server.preprocessor.clone();
    let holding = tokio::spawn(async move {
        let hold = move || {
            let _ = holds.send(());
            let _ = held.recv();
        };
        preprocessor.bounded(hold).await.unwrap();
    });
    is_held.await.unwrap();
    let body = json!({
        "image_key": key, "objects": ["red circle"], "stream": true, "timeout": "2s",
    });
    let response = server.send(server.post("/v1/segment").json(&body)).await;
    let events: Vec<(String, Value)> = events(response).collect().await;
    drop(release);
    holding.await.unwrap();
    let (name, problem) = events.last().unwrap();
    assert_eq!(name, "error", "{problem}");
    assert_eq!(problem["code"], "deadline_exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_decoder_the_answer_is_501_and_says_how_to_get_one() {
    let server = Server::golden(&[]).await;
    let image = BASE64_STANDARD.encode(example("red-circle.png"));
    let body = json!({"image": image, "objects": ["cat"]});
    let answer = server.json("/v1/segment", &body).await;
    assert_problem(&answer, 501, "no_mask_decoder", "--mask-decoder");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_mask_format_is_refused_with_the_known_ones() {
    let server = Server::demo(&[]).await;
    let image = BASE64_STANDARD.encode(example("red-circle.png"));
    let body = json!({"image": image, "objects": ["cat"], "mask_format": "polygon"});
    let answer = server.json("/v1/segment", &body).await;
    assert_problem(&answer, 400, "invalid_field", "rle");
}
