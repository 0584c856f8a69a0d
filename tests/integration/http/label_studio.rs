//! The ML backend for Label Studio.

mod many_tasks;

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use base64::prelude::{BASE64_STANDARD, Engine};
use paligemma_test_support::server::{CHECKPOINT, Server, assert_problem, read};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::http::demo::example;
use crate::http::picture;

const ON: (&str, &str) = ("label_studio_routes", "true");
const PREDICT: &str = "/label-studio/predict";

fn config(controls: &str) -> String {
    format!(r#"<View><Image name="img" value="$photo"/>{controls}</View>"#)
}

fn boxes(labels: &[&str]) -> String {
    let labels = labels
        .iter()
        .map(|label| format!("<Label value='{label}'/>"));
    let labels = labels.collect::<String>();
    format!("<RectangleLabels name='boxes' toName='img'>{labels}</RectangleLabels>")
}

fn body(photos: &[&str], controls: &str) -> Value {
    let task = |(id, photo): (usize, &&str)| json!({"id": id, "data": {"photo": photo, "n": 1}});
    json!({
        "tasks": photos.iter().enumerate().map(task).collect::<Vec<_>>(),
        "project": "1.1767225600",
        "label_config": config(controls),
        "params": {"login": null, "password": null, "context": null},
    })
}

fn photo(name: &str) -> String {
    BASE64_STANDARD.encode(example(name))
}

/// The results of a request that succeeds.
async fn results(server: &Server, body: &Value) -> Vec<Value> {
    let (status, answer) = server.json(PREDICT, body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer["results"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn its_routes_are_not_there_unless_the_operator_turns_them_on() {
    let server = Server::golden(&[]).await;
    for path in ["/label-studio/health", "/label-studio/"] {
        let answer = read(server.send(server.get(path)).await).await;
        assert_problem(&answer, 404, "not_found", path);
    }
    for path in ["/label-studio/setup", "/label-studio/webhook", PREDICT] {
        assert_problem(&server.json(path, &json!({})).await, 404, "not_found", path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_up_names_the_model_and_takes_webhooks() {
    let server = Server::golden(&[ON]).await;
    for path in ["/label-studio/health", "/label-studio/"] {
        let (_, health) = read(server.send(server.get(path)).await).await;
        let up = json!({"status": "UP", "model_class": "PaliGemma"});
        assert_eq!(health, up);
    }
    for schema in [
        json!(config(&boxes(&["cat"]))),
        json!("<View></View>"),
        json!(""),
        json!(null),
    ] {
        let asked =
            json!({"project": "1.1", "schema": schema, "hostname": "", "access_token": "t"});
        let (status, version) = server.json("/label-studio/setup", &asked).await;
        assert_eq!(status, StatusCode::OK, "{version}");
        assert_eq!(version, json!({"model_version": CHECKPOINT}));
    }
    let event = json!({"action": "ANNOTATION_CREATED", "annotation": {"result": []}});
    let (_, answer) = server.json("/label-studio/webhook", &event).await;
    assert_eq!(answer, json!({"status": "ok"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_are_those_of_detect_in_percent() {
    let server = Server::demo(&[ON]).await;
    let photos = ["circle-and-square.jpg", "exif-rotated.jpg"].map(photo);
    let objects = ["blue square", "green heart", "orange square", "red circle"];
    let asked = json!({"images": photos, "objects": objects});
    let (_, detected) = server.json("/v1/detect", &asked).await;
    let asked = body(&[&photos[0], &photos[1]], &boxes(&objects));
    let predicted = results(&server, &asked).await;
    let mut compared = 0;
    for (prediction, detected) in predicted
        .iter()
        .zip(detected["results"].as_array().unwrap())
    {
        assert_eq!(prediction["model_version"], CHECKPOINT);
        let regions = prediction["result"].as_array().unwrap();
        let objects = detected["objects"].as_array().unwrap();
        let (regions, objects) = (regions.iter(), objects.iter());
        let wanted = objects.filter(|object| object["label"] != "");
        assert_eq!(
            regions.len(),
            wanted.clone().count(),
            "{prediction} {detected}"
        );
        let mut scores = Vec::new();
        for (region, object) in regions.zip(wanted) {
            assert_eq!(region["type"], "rectanglelabels");
            assert_eq!(
                (&region["from_name"], &region["to_name"]),
                (&json!("boxes"), &json!("img"))
            );
            assert_eq!(region["score"], object["score"]);
            scores.push(object["score"].as_f64().unwrap());
            let value = &region["value"];
            assert_eq!(value["rectanglelabels"], json!([object["label"]]));
            let percent = |name: &str| value[name].as_f64().unwrap();
            let pixels = |name: &str| object["box"][name].as_f64().unwrap();
            let [width, height] =
                ["original_width", "original_height"].map(|name| region[name].as_f64().unwrap());
            for (percent, length, pixels) in [
                (percent("x"), width, pixels("x0")),
                (percent("y"), height, pixels("y0")),
                (percent("x") + percent("width"), width, pixels("x1")),
                (percent("y") + percent("height"), height, pixels("y1")),
            ] {
                assert!(
                    (percent / 100.0 * length - pixels).abs() < 0.01,
                    "{region} {object}"
                );
            }
            compared += 1;
        }
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        assert!((prediction["score"].as_f64().unwrap() - mean).abs() < 1e-4);
    }
    assert!(compared >= 2, "{predicted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_are_those_of_segment_in_label_studios_encoding() {
    let server = Server::demo(&[ON]).await;
    let photo = photo("red-circle.png");
    let asked = json!({"image": photo, "objects": ["red circle"]});
    let (_, segmented) = server.json("/v1/segment", &asked).await;
    let png = &segmented["results"][0]["objects"][0]["mask"];
    let png = BASE64_STANDARD.decode(png.as_str().unwrap()).unwrap();
    let mask = image::load_from_memory(&png).unwrap().into_luma8();
    let brush = "<BrushLabels name='b' toName='img'><Label value='Disc' predicted_values='red circle'/></BrushLabels>";
    let predicted = results(&server, &body(&[&photo], brush)).await;
    let region = &predicted[0]["result"][0];
    assert_eq!(region["type"], "brushlabels");
    assert_eq!(region["value"]["brushlabels"], json!(["Disc"]));
    assert_eq!(region["value"]["format"], "rle");
    let rle = region["value"]["rle"].as_array().unwrap();
    let rle: Vec<u8> = rle
        .iter()
        .map(|byte| byte.as_u64().unwrap() as u8)
        .collect();
    let rgba = decoded(&rle);
    assert_eq!(rgba.len(), mask.as_raw().len() * 4);
    for (pixel, expected) in rgba.chunks(4).zip(mask.as_raw()) {
        assert_eq!(pixel, [*expected; 4]);
    }
}

/// Label Studio's encoding, read as `decode_rle` in its SDK does.
fn decoded(rle: &[u8]) -> Vec<u8> {
    let mut bits = rle
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1));
    let mut read = |count: usize| {
        bits.by_ref()
            .take(count)
            .fold(0, |all, bit| all << 1 | usize::from(bit))
    };
    let count = read(32);
    let word = read(5) + 1;
    let sizes = [(); 4].map(|()| read(4) + 1);
    let mut out = Vec::with_capacity(count);
    while out.len() < count {
        let run = read(1) == 1;
        let size = sizes[read(2)];
        let length = read(size) + 1;
        match run {
            true => {
                let value = read(word) as u8;
                out.extend(vec![value; length]);
            }
            false => out.extend((0..length).map(|_| read(word) as u8)),
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_and_choices_are_answers() {
    let server = Server::demo(&[ON]).await;
    let photo = photo("red-circle.png");
    let controls = "<TextArea name='caption' toName='img' model_prompt='cap en'/>
        <TextArea name='answer' toName='img' placeholder='what color is the circle?'/>
        <Choices name='colour' toName='img' model_prompt='answer en what color is the circle?'>
          <Choice value='Red'/><Choice value='Blue'/></Choices>
        <Choices name='number' toName='img' model_prompt='answer en how many shapes are there?'>
          <Choice value='many'/></Choices>
        <Ellipse name='ellipse' toName='img'/>";
    let predicted = results(&server, &body(&[&photo], controls)).await;
    let text = |name: &str, text: &str| {
        json!({"id": format!("{name}-0"), "from_name": name, "to_name": "img", "type": "textarea",
               "value": {"text": [text]}})
    };
    let colour = json!({"id": "colour-0", "from_name": "colour", "to_name": "img", "type": "choices",
                        "value": {"choices": ["Red"]}});
    let expected = json!([
        text("caption", "a red circle"),
        text("answer", "red"),
        colour
    ]);
    assert_eq!(predicted[0]["result"], expected);
    assert_eq!(predicted[0]["score"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_takes_no_other_with_it() {
    let server = Server::golden(&[ON]).await;
    let good = picture::base64(1);
    let controls = "<TextArea name='t' toName='img'/>";
    let mut asked = body(&[&good, "!", "/data/upload/1/a.png", &good], controls);
    asked["tasks"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": 9, "data": {"other": "x"}}));
    let predicted = results(&server, &asked).await;
    assert_eq!(predicted.len(), 5);
    for index in [0, 3] {
        assert_eq!(predicted[index]["result"], predicted[0]["result"]);
        assert!(predicted[index]["result"].is_array(), "{predicted:?}");
    }
    for (index, code) in [
        (1, "invalid_base64"),
        (2, "image_url_not_allowed"),
        (4, "missing_field"),
    ] {
        let failed = &predicted[index];
        assert_eq!(failed["result"], Value::Null);
        assert_eq!(failed["error"]["code"], code);
        let param = format!("tasks[{index}].data.photo");
        assert_eq!(failed["error"]["param"], param);
    }
    let alone = server
        .json(PREDICT, &body(&["/data/upload/1/a.png"], controls))
        .await;
    assert_problem(&alone, 422, "image_url_not_allowed", "label_studio_api_key");
    assert_eq!(alone.1["param"], "tasks[0].data.photo");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_fetched_from_label_studio_with_its_token() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let png = Arc::new(picture::png(7));
    let upload = async move |headers: HeaderMap| match headers.get("authorization") {
        Some(value) if value == "Token the-token" => Ok((*png).clone()),
        _ => Err(StatusCode::UNAUTHORIZED),
    };
    let host = Router::new().route("/data/upload/1/a.png", get(upload));
    tokio::spawn(async move { axum::serve(listener, host).await });
    let controls = "<TextArea name='t' toName='img'/>";
    let absolute = format!("{url}/data/upload/1/a.png");
    let asked = body(
        &["/data/upload/1/a.png", &absolute, &picture::base64(7)],
        controls,
    );
    let of = |key| {
        [
            ON,
            ("label_studio_url", &*url),
            ("label_studio_api_key", key),
        ]
    };
    let server = Server::golden(&of("the-token")).await;
    let predicted = results(&server, &asked).await;
    assert!(
        predicted[0]["result"][0]["value"]["text"].is_array(),
        "{predicted:?}"
    );
    assert_eq!(predicted[0], predicted[1]);
    assert_eq!(predicted[0], predicted[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named() {
    let server = Server::golden(&[ON, ("max_images", "1")]).await;
    let good = picture::base64(1);
    let caption = "<TextArea name='t' toName='img'/>";
    let with = |field: &str, value: Value| {
        let mut body = body(&[&good], caption);
        body[field] = value;
        body
    };
    let two_images = "<Image name='b' value='$b'/><TextArea name='t' toName='img'/><TextArea name='u' toName='b'/>";
    for (body, code, param) in [
        (json!({}), "missing_field", "label_config"),
        (
            with("label_config", json!(1)),
            "missing_field",
            "label_config",
        ),
        (json!({"label_config": "<View/>"}), "missing_field", "tasks"),
        (
            with("label_config", json!("<View")),
            "invalid_field",
            "label_config",
        ),
        (
            with("label_config", json!("<View/>")),
            "out_of_range",
            "label_config",
        ),
        (
            body(&[&good], "<KeyPoint name='k' toName='img'/>"),
            "out_of_range",
            "label_config",
        ),
        (
            body(&[&good], &boxes(&["a;b"])),
            "out_of_range",
            "label_config",
        ),
        (with("tasks", json!([])), "out_of_range", "tasks"),
        (body(&[&good], two_images), "out_of_range", "label_config"),
        (
            with("tasks", json!([{"id": 1}])),
            "missing_field",
            "tasks[0].data.photo",
        ),
        (
            with("tasks", json!([{"data": {"photo": 1}}])),
            "missing_field",
            "tasks[0].data.photo",
        ),
        (
            body(&["http://example.org/a.png"], caption),
            "image_url_not_allowed",
            "tasks[0].data.photo",
        ),
    ] {
        let (status, problem) = server.json(PREDICT, &body).await;
        assert!(status.is_client_error(), "{problem}");
        let found = (&problem["code"], &problem["param"]);
        assert_eq!(found, (&json!(code), &json!(param)), "{problem}");
    }
    let shape = server.json(PREDICT, &with("tasks", json!({}))).await;
    assert_problem(&shape, 400, "invalid_field", "list of tasks");
    let brush = "<BrushLabels name='b' toName='img'><Label value='cat'/></BrushLabels>";
    let masks = server.json(PREDICT, &body(&[&good], brush)).await;
    assert_problem(&masks, 501, "no_mask_decoder", "--mask-decoder");
    for (schema, code) in [
        (
            json!(config("<KeyPoint name='k' toName='img'/>")),
            "out_of_range",
        ),
        (json!("<View"), "invalid_field"),
        (json!(1), "invalid_field"),
    ] {
        let (_, problem) = server
            .json("/label-studio/setup", &json!({"schema": schema}))
            .await;
        let found = (&problem["code"], &problem["param"]);
        assert_eq!(found, (&json!(code), &json!("schema")), "{problem}");
    }
    let event = server.post("/label-studio/setup").body("{}");
    assert_eq!(
        server.send(event).await.status(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_may_be_the_password_of_basic_authentication() {
    let server = Server::golden(&[ON, ("api_keys", "secret")]).await;
    let health = server.send(server.get("/label-studio/health")).await;
    assert_eq!(health.status(), StatusCode::OK);
    let asked = body(&[&picture::base64(1)], "<TextArea name='t' toName='img'/>");
    for path in [PREDICT, "/label-studio/setup"] {
        assert_problem(&server.json(path, &asked).await, 401, "unauthorized", "key");
        let wrong = server.post(path).basic_auth("label-studio", Some("other"));
        let wrong = read(server.send(wrong.json(&asked)).await).await;
        assert_problem(&wrong, 401, "unauthorized", "key");
        let basic = server.post(path).basic_auth("label-studio", Some("secret"));
        assert_eq!(
            server.send(basic.json(&asked)).await.status(),
            StatusCode::OK
        );
        let bearer = server.post(path).bearer_auth("secret");
        assert_eq!(
            server.send(bearer.json(&asked)).await.status(),
            StatusCode::OK
        );
    }
    let (status, _) = server.json("/label-studio/webhook", &asked).await;
    assert_eq!(status, StatusCode::OK);
    let elsewhere = server
        .post("/v1/caption")
        .basic_auth("label-studio", Some("secret"));
    let elsewhere = read(server.send(elsewhere.json(&asked)).await).await;
    assert_problem(&elsewhere, 401, "unauthorized", "Bearer");
}
