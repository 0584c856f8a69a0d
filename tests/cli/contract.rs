//! Sends every example in openapi.yaml to the demo, started with its defaults and all optional routes but the adapters'.

use eventsource_stream::Eventsource;
use futures::StreamExt;
use paligemma_server::http_client;
use serde_json::{Map, Value};

use super::life::Server;

/// Tolerance for probabilities and box edges, because examples are rounded.
const TOLERANCE: f64 = 0.01;

/// Fields that differ in each answer, or on each processor.
const OF_ONE_ANSWER: [&str; 5] = ["id", "created", "timings", "request_id", "instructions"];

fn document() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.yaml");
    serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The examples of a request or of a response, by name.
fn examples<'a>(part: &'a Value, media_type: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let examples = part["content"][media_type]["examples"].as_object();
    let examples = examples.into_iter().flatten();
    examples.map(|(name, example)| (name.as_str(), &example["value"]))
}

/// The status and the answer of the example with that name.
fn expected<'a>(operation: &'a Value, name: &str) -> Option<(&'a str, &'a Value)> {
    let responses = operation["responses"].as_object()?;
    let mut found = responses.iter().filter_map(|(status, response)| {
        let content = response["content"].as_object()?;
        let mut all = content.keys().flat_map(|kind| examples(response, kind));
        let (_, value) = all.find(|(other, _)| *other == name)?;
        Some((status.as_str(), value))
    });
    found.next()
}

/// Name and data of each event of a stream.
async fn events(text: &str) -> Vec<(String, String)> {
    let text = format!("{text}\n\n");
    let stream = futures::stream::iter([Ok::<_, std::convert::Infallible>(text)]).eventsource();
    let events = stream.map(|event| event.unwrap());
    events
        .map(|event| (event.event, event.data))
        .collect()
        .await
}

/// Compares numbers with a tolerance; ignores the values of fields that differ in each answer.
fn same(answer: &Value, example: &Value) -> bool {
    match (answer, example) {
        (Value::Number(answer), Value::Number(example)) => {
            (answer.as_f64().unwrap() - example.as_f64().unwrap()).abs() < TOLERANCE
        }
        (Value::Array(answer), Value::Array(example)) => {
            answer.len() == example.len()
                && answer
                    .iter()
                    .zip(example)
                    .all(|(one, other)| same(one, other))
        }
        (Value::Object(answer), Value::Object(example)) => same_fields(answer, example),
        _ => answer == example,
    }
}

fn same_fields(answer: &Map<String, Value>, example: &Map<String, Value>) -> bool {
    answer.keys().eq(example.keys())
        && answer.iter().all(|(name, value)| {
            let varies = OF_ONE_ANSWER.contains(&name.as_str()) && !value.is_u64();
            varies || name == "created" || same(value, &example[name])
        })
}

async fn check(place: &str, answer: &str, example: &Value) {
    let Some(stream) = example.as_str() else {
        let value: Value = serde_json::from_str(answer).unwrap();
        assert!(same(&value, example), "{place}\n{value:#}\n{example:#}");
        return;
    };
    let (answer, example) = (events(answer).await, events(stream).await);
    assert_eq!(answer.len(), example.len(), "{place}: {answer:?}");
    for ((name, data), (example_name, example)) in answer.iter().zip(&example) {
        assert_eq!(name, example_name, "{place}");
        let values = (serde_json::from_str(data), serde_json::from_str(example));
        match values {
            (Ok(value), Ok(other)) => assert!(same(&value, &other), "{place}: {data} {example}"),
            _ => assert_eq!(data, example, "{place}"),
        }
    }
}

/// The path with its parameters as their examples say.
fn filled(path: &str, operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters.fold(path.to_owned(), |path, parameter| {
        let [name, example] = ["name", "example"].map(|field| parameter[field].as_str());
        let place = format!("{{{}}}", name.unwrap());
        path.replace(&place, example.unwrap_or("{example}"))
    })
}

#[tokio::test]
async fn the_demo_answers_the_examples_as_the_contract_says() {
    // With AMX, prefixes are multiplied in bf16, and a mask may differ in a pixel.
    let server = Server::ready_as(
        &"serve --port 0 --cpu-instructions portable --kserve-routes true --sagemaker-routes true --label-studio-routes true"
            .split(' ')
            .collect::<Vec<_>>(),
    );
    let client = http_client::builder().build().unwrap();
    let url = |path: &str| format!("http://{}{path}", server.address());
    let (document, mut sent, mut compared) = (document(), 0, 0);
    for (path, item) in document["paths"].as_object().unwrap() {
        let post = &item["post"];
        for (name, request) in examples(&post["requestBody"], "application/json") {
            let place = format!("POST {path} {name}");
            let path = filled(path, post);
            let response = client.post(url(&path)).json(request).send().await.unwrap();
            let status = response.status();
            let text = response.text().await.unwrap();
            sent += 1;
            match expected(post, name) {
                Some((expected, example)) => {
                    assert_eq!(status.as_str(), expected, "{place}: {text}");
                    check(&place, &text, example).await;
                    compared += 1;
                }
                None => assert_eq!(status, 200, "{place}: {text}"),
            }
        }
        for (name, example) in examples(&item["get"]["responses"]["200"], "application/json") {
            let path = filled(path, &item["get"]);
            let response = client.get(url(&path)).send().await.unwrap();
            let text = response.text().await.unwrap();
            check(&format!("GET {path} {name}"), &text, example).await;
            compared += 1;
        }
    }
    assert!(
        sent >= 20 && compared >= 20,
        "{sent} sent, {compared} compared"
    );
}

#[test]
fn each_operation_with_a_body_has_an_example() {
    for (path, item) in document()["paths"].as_object().unwrap() {
        let body = &item["post"]["requestBody"];
        let some = examples(body, "application/json").next().is_some();
        assert!(body.is_null() || some, "{path}");
    }
}
