//! The task routes on a checkpoint whose answers transformers recorded.

use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::http::picture;
use paligemma_test_support::golden::Golden;
use paligemma_test_support::server::{CHECKPOINT, Server, read};

fn golden() -> Golden {
    let mut all = Golden::all().into_iter();
    all.find(|golden| golden.name() == CHECKPOINT).unwrap()
}

fn png(golden: &Golden, image: usize) -> Vec<u8> {
    picture::png_of(28, golden.pixels(image))
}

fn image_part(bytes: Vec<u8>) -> Part {
    Part::bytes(bytes).file_name("photo.png")
}

#[tokio::test(flavor = "multi_thread")]
async fn generate_gives_the_text_that_transformers_gives() {
    let server = Server::golden(&[]).await;
    let golden = golden();
    let mut compared = 0;
    for case in &golden.cases {
        // The reference went on after <eos> (1), and ties are its own.
        let margin = case.margins.iter().copied().fold(f32::INFINITY, f32::min);
        if case.tokens.contains(&1) || margin < 1e-3 {
            continue;
        }
        let image = BASE64_STANDARD.encode(png(&golden, case.image));
        let body = json!({"image": image, "prompt": case.prompt, "max_tokens": 24});
        let (status, answer) = server.json("/v1/generate", &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let result = &answer["results"][0];
        assert_eq!(result["text"], case.text, "{:?}", case.prompt);
        assert_eq!(result["finish_reason"], "length");
        let usage = json!({"image_tokens": 4, "prompt_tokens": case.prompt_ids.len(), "completion_tokens": 24});
        assert_eq!(result["usage"], usage);
        compared += 1;
    }
    assert!(compared >= 5, "only {compared} cases could be compared");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_the_documented_shape() {
    let server = Server::golden(&[]).await;
    let body = json!({"image": picture::base64(9), "prompt": "", "max_tokens": 3, "logprobs": 2});
    let (status, answer) = server.json("/v1/generate", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(answer["id"].as_str().unwrap().starts_with("generate-"));
    assert_eq!(
        (&answer["object"], &answer["model"]),
        (&json!("generate"), &json!(CHECKPOINT))
    );
    assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(answer["usage"], answer["results"][0]["usage"]);
    for name in [
        "queue_ms",
        "vision_ms",
        "prefill_ms",
        "decode_ms",
        "total_ms",
    ] {
        assert!(answer["timings"][name].as_f64().unwrap() >= 0.0, "{name}");
    }
    let logprobs = answer["results"][0]["logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), 3);
    // Greedy: the chosen token is the likeliest.
    for token in logprobs {
        assert_eq!(token["top"].as_array().unwrap().len(), 2);
        assert_eq!(token["top"][0]["id"], token["id"]);
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_images_are_captioned_in_the_order_sent_in_json_and_in_a_form() {
    let server = Server::golden(&[]).await;
    let golden = golden();
    let images = [png(&golden, 0), png(&golden, 1), picture::png(200)];
    let mut alone = Vec::new();
    for image in &images {
        let body =
            json!({"image": BASE64_STANDARD.encode(image), "length": "short", "max_tokens": 8});
        let (status, answer) = server.json("/v1/caption", &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        alone.push(answer["results"][0]["caption"].clone());
    }
    assert!(alone[0] != alone[1] && alone[1] != alone[2]);

    let encoded: Vec<_> = images
        .iter()
        .map(|image| BASE64_STANDARD.encode(image))
        .collect();
    let body = json!({"images": encoded, "length": "short", "max_tokens": 8});
    let (_, from_json) = server.json("/v1/caption", &body).await;
    let form = images.iter().fold(Form::new(), |form, image| {
        form.part("image", image_part(image.clone()))
    });
    let form = form.text("length", "short").text("max_tokens", "8");
    let request = server.post("/v1/caption").multipart(form);
    let (_, from_form) = read(server.send(request).await).await;
    for answer in [from_json, from_form] {
        let results = answer["results"].as_array().unwrap();
        let captions: Vec<_> = results
            .iter()
            .map(|result| result["caption"].clone())
            .collect();
        assert_eq!(captions, alone);
        let indices: Vec<_> = results
            .iter()
            .map(|result| result["index"].clone())
            .collect();
        assert_eq!(indices, [0, 1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_length_and_language_has_its_own_prompt() {
    let server = Server::golden(&[]).await;
    let image = picture::base64(60);
    for (length, language, prompt) in [
        ("short", "en", "cap en"),
        ("normal", "de", "caption de"),
        ("detailed", "en", "describe en"),
    ] {
        let body = json!({"image": image, "length": length, "language": language, "max_tokens": 8});
        let (_, caption) = server.json("/v1/caption", &body).await;
        let body = json!({"image": image, "prompt": prompt, "max_tokens": 8});
        let (_, generated) = server.json("/v1/generate", &body).await;
        assert_eq!(
            caption["results"][0]["caption"],
            generated["results"][0]["text"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_or_several_questions_are_answered_in_order() {
    let server = Server::golden(&[]).await;
    let image = picture::base64(120);
    let questions = [
        "Where is it?",
        "42",
        "What colour is the thing in the middle?",
    ];
    let mut alone = Vec::new();
    for question in questions {
        let body =
            json!({"image": image, "prompt": format!("answer en {question}"), "max_tokens": 6});
        let (_, answer) = server.json("/v1/generate", &body).await;
        alone.push(answer["results"][0]["text"].clone());
    }
    let answers = |answer: &Value| -> Vec<Value> {
        let results = answer["results"].as_array().unwrap();
        results
            .iter()
            .map(|result| result["answer"].clone())
            .collect()
    };
    let body = json!({"image": image, "questions": questions, "max_tokens": 6});
    let (_, from_json) = server.json("/v1/vqa", &body).await;
    assert_eq!(answers(&from_json), alone);

    let form = questions.iter().fold(Form::new(), |form, question| {
        form.text("questions", *question)
    });
    let form = form
        .part("image", image_part(picture::png(120)))
        .text("max_tokens", "6");
    let (_, from_form) = read(server.send(server.post("/v1/vqa").multipart(form)).await).await;
    assert_eq!(answers(&from_form), alone);

    // A text that looks like a number stays a text.
    let form = Form::new().text("question", "42").text("max_tokens", "6");
    let form = form.part("image", image_part(picture::png(120)));
    let (_, from_form) = read(server.send(server.post("/v1/vqa").multipart(form)).await).await;
    assert_eq!(answers(&from_form), alone[1..2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sampling_with_a_seed_is_repeatable_and_a_stop_text_ends_the_answer() {
    let server = Server::golden(&[]).await;
    let mut body = json!({"image": picture::base64(3), "prompt": "caption en", "max_tokens": 16,
        "temperature": 2.0, "top_k": 500, "top_p": 0.99, "seed": 7});
    let text = |answer: Value| answer["results"][0]["text"].as_str().unwrap().to_owned();
    let first = text(server.json("/v1/generate", &body).await.1);
    assert_eq!(text(server.json("/v1/generate", &body).await.1), first);
    body["seed"] = json!(8);
    assert_ne!(text(server.json("/v1/generate", &body).await.1), first);

    body["seed"] = json!(7);
    let stop: String = first
        .chars()
        .skip(first.chars().count() / 2)
        .take(2)
        .collect();
    body["stop"] = json!([stop]);
    let (_, answer) = server.json("/v1/generate", &body).await;
    assert_eq!(answer["results"][0]["finish_reason"], "stop");
    assert_eq!(text(answer), first.split(&stop).next().unwrap());
}
