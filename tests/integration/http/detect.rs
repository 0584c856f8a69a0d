//! Boxes: from the model's words to pixels of the picture that was sent.

use base64::prelude::{BASE64_STANDARD, Engine};
use futures::StreamExt;
use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::http::picture;
use crate::http::sse::events;
use paligemma_test_support::server::{Server, assert_problem, read};

/// Answers to `detect cat ; dog`: a cat, a box of one edge, a dog.
const ANSWER: &str = "<loc0000><loc0341><loc1023><loc0682> cat ; <loc0100> dog ; <loc0001><loc0002><loc0003><loc0004> dog";

/// A server whose model gives [`ANSWER`].
async fn scripted() -> Server {
    Server::scripted(&[("detect cat ; dog", ANSWER)]).await
}

fn cat() -> Value {
    let third = 341.0 / 1023.0;
    json!({
        "label": "cat",
        "box": {"x0": third * 40.0, "y0": 0.0, "x1": 2.0 * third * 40.0, "y1": 30.0},
        "box_normalized": {"x0": third, "y0": 0.0, "x1": 2.0 * third, "y1": 1.0},
    })
}

fn image() -> String {
    BASE64_STANDARD.encode(picture::png_sized(40, 30))
}

fn body() -> Value {
    json!({"image": image(), "objects": ["cat", " dog\n"]})
}

/// Takes the scores out, each of which is a probability, and the log-probabilities.
fn take_scores(objects: &mut Value) -> Vec<f64> {
    let mut scores = Vec::new();
    for object in objects.as_array_mut().unwrap() {
        let object = object.as_object_mut().unwrap();
        let logprob = object.remove("logprob").unwrap().as_f64().unwrap();
        assert!(logprob < 0.0, "{logprob}");
        scores.push(object.remove("score").unwrap().as_f64().unwrap());
    }
    assert!(
        scores.iter().all(|score| *score > 0.0 && *score < 1.0),
        "{scores:?}"
    );
    scores
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_have_boxes_in_pixels_and_malformed_ones_are_reported() {
    let server = scripted().await;
    let (status, mut answer) = server.json("/v1/detect", &body()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["object"], "detect");
    let result = &mut answer["results"][0];
    take_scores(&mut result["objects"]);
    assert_eq!(result["objects"][0], cat());
    assert_eq!(result["objects"][1]["label"], "dog");
    assert_eq!(result["objects"].as_array().unwrap().len(), 2);
    assert_eq!(
        result["dropped"],
        json!([{"reason": "incomplete_box", "text": "<loc0100> dog"}])
    );
    assert!(result.get("logprobs").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_score_counts_bins_near_an_edge_and_the_log_probability_does_not() {
    let server = scripted().await;
    let mut body = body();
    body["logprobs"] = json!(0);
    let (_, mut answer) = server.json("/v1/detect", &body).await;
    let result = &mut answer["results"][0];
    let tokens = result["logprobs"].as_array().unwrap();
    let end = tokens
        .iter()
        .position(|token| token["token"].as_str().unwrap().contains(';'));
    let tokens = &tokens[..end.unwrap()];
    let mean = |tokens: &[Value]| {
        let logprobs = tokens
            .iter()
            .map(|token| token["logprob"].as_f64().unwrap());
        logprobs.sum::<f64>() / tokens.len() as f64
    };
    let object = &result["objects"][0];
    let (score, logprob) = (
        object["score"].as_f64().unwrap(),
        object["logprob"].as_f64().unwrap(),
    );
    assert!((logprob - mean(tokens)).abs() < 1e-5, "{logprob}");
    // The toy gives every token some probability.
    let (edges, label) = tokens.split_at(4);
    let alone = (mean(edges) + mean(label)).exp();
    assert!(
        score > alone + 1e-4,
        "{score}, and {alone} without neighbours"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_below_the_least_score_are_left_out() {
    let server = scripted().await;
    let mut body = body();
    let (_, answer) = server.json("/v1/detect", &body).await;
    let objects = answer["results"][0]["objects"].as_array().unwrap();
    let scores: Vec<f64> = objects
        .iter()
        .map(|object| object["score"].as_f64().unwrap())
        .collect();
    assert_eq!(scores.len(), 2);
    let least = scores[0].max(scores[1]);
    body["min_score"] = json!(least);
    let (_, answer) = server.json("/v1/detect", &body).await;
    let result = &answer["results"][0];
    let kept = result["objects"].as_array().unwrap();
    assert_eq!(kept.len(), 1, "{scores:?} {kept:?}");
    assert_eq!(kept[0]["score"].as_f64().unwrap(), least);
    assert_eq!(result["dropped"].as_array().unwrap().len(), 1);

    let form = Form::new().part(
        "image",
        Part::bytes(picture::png_sized(40, 30)).file_name("photo.png"),
    );
    let form = form.text("objects", "cat").text("objects", "dog");
    let form = form.text("min_score", "1");
    let (_, answer) = read(server.send(server.post("/v1/detect").multipart(form)).await).await;
    assert_eq!(answer["results"][0]["objects"], json!([]));

    for outside in [json!(-0.1), json!(1.5)] {
        body["min_score"] = outside;
        let answer = server.json("/v1/detect", &body).await;
        assert_problem(&answer, 422, "out_of_range", "0 to 1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_sent_before_the_text_of_the_next_one() {
    let server = scripted().await;
    let mut body = body();
    body["stream"] = json!(true);
    let response = server.send(server.post("/v1/detect").json(&body)).await;
    let events: Vec<(String, Value)> = events(response).collect().await;
    let place = |wanted: &str, words: &str| {
        let found =
            |(name, data): &(String, Value)| name == wanted && data.to_string().contains(words);
        events
            .iter()
            .position(found)
            .unwrap_or_else(|| panic!("no {wanted} with {words}"))
    };
    assert!(place("object", "cat") < place("delta", "<loc0100>"));
    assert!(place("object", "dog") < place("result", "objects"));
    let sent = events.iter().filter(|(name, _)| name == "object");
    let sent: Vec<Value> = sent
        .map(|(_, data)| {
            let mut object = data.clone();
            assert_eq!(
                object.as_object_mut().unwrap().remove("index"),
                Some(json!(0))
            );
            object
        })
        .collect();
    let (_, result) = &events[events.len() - 2];
    assert_eq!(json!(sent), result["objects"]);
    // Probabilities are needed for the score, but were not asked for.
    assert!(
        events
            .iter()
            .all(|(_, data)| data.get("logprobs").is_none())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_images_are_searched_in_one_request_and_forms_repeat_the_field() {
    let server = scripted().await;
    let part = || Part::bytes(picture::png_sized(40, 30)).file_name("photo.png");
    let form = Form::new().part("image", part()).part("image", part());
    let form = form.text("objects", "cat").text("objects", "dog");
    let (status, mut answer) =
        read(server.send(server.post("/v1/detect").multipart(form)).await).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    for index in 0..2 {
        let result = &mut answer["results"][index];
        assert_eq!(result["index"], index);
        take_scores(&mut result["objects"]);
        assert_eq!(result["objects"][0], cat());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_objects_are_refused() {
    let server = scripted().await;
    for (objects, status, code, words) in [
        (json!(null), 400, "invalid_field", "list"),
        (json!("cat"), 400, "invalid_field", "list"),
        (json!([]), 422, "out_of_range", "1 to 64"),
        (json!(["cat", ""]), 422, "out_of_range", "objects[1]"),
        (json!(["cat ; dog"]), 422, "out_of_range", "`;`"),
    ] {
        let body = json!({"image": image(), "objects": objects});
        assert_problem(&server.json("/v1/detect", &body).await, status, code, words);
    }
    let body = json!({"image": image()});
    assert_problem(
        &server.json("/v1/detect", &body).await,
        400,
        "missing_field",
        "objects",
    );
}
