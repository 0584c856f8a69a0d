//! The contract's examples: requests, and what the built-in demo answers to them.
//!
//! They lie in one file a route beside this one; a test sends each of them to the demo.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;
use serde_json::Value;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, OpenApi, RefOr};

/// A picture of 97 x 61 pixels, small enough to be read past.
const IMAGE: &[u8] = include_bytes!("../../../examples/images/small.gif");

const FILES: [&str; 10] = [
    include_str!("examples/caption.yaml"),
    include_str!("examples/vqa.yaml"),
    include_str!("examples/question.yaml"),
    include_str!("examples/ocr.yaml"),
    include_str!("examples/detect.yaml"),
    include_str!("examples/segment.yaml"),
    include_str!("examples/generate.yaml"),
    include_str!("examples/chat.yaml"),
    include_str!("examples/completions.yaml"),
    include_str!("examples/operations.yaml"),
];

#[derive(Deserialize)]
struct Example {
    path: String,
    /// What it is called, in the request and in the answer.
    name: String,
    summary: String,
    /// The body of a POST; without one, it is a GET.
    request: Option<Value>,
    status: u16,
    /// Absent where the demo answers without having learnt to; a text when it is a stream.
    answer: Option<Value>,
}

/// Puts all examples where they belong in `document`.
///
/// # Panics
/// When an example is of an operation, a status or a media type that `document` does not have.
pub fn add(document: &mut OpenApi) {
    let image = format!("data:image/gif;base64,{}", BASE64_STANDARD.encode(IMAGE));
    for file in FILES {
        let file = file.replace("image: IMAGE", &format!("image: {image}"));
        let file = file.replace("url: IMAGE", &format!("url: {image}"));
        let examples: Vec<Example> = serde_yaml_ng::from_str(&file).expect("a list of examples");
        for example in examples {
            let place = format!("{} {}", example.path, example.name);
            add_one(document, example).unwrap_or_else(|| panic!("no place for example {place}"));
        }
    }
}

fn add_one(document: &mut OpenApi, example: Example) -> Option<()> {
    let item = document.paths.paths.get_mut(&example.path)?;
    let operation = match example.request {
        Some(_) => item.post.as_mut()?,
        None => item.get.as_mut()?,
    };
    let written = |value: Value| {
        let example = ExampleBuilder::new().summary(&example.summary);
        RefOr::T(example.value(Some(value)).build())
    };
    let name = &example.name;
    if let Some(answer) = example.answer.map(written) {
        let content = answer_content(operation, example.status, &answer)?;
        content.examples.insert(name.clone(), answer);
    }
    if let Some(request) = example.request.map(written) {
        let RefOr::T(body) = operation.request_body.as_mut()? else {
            return None;
        };
        let RefOr::T(content) = body.content.get_mut("application/json")? else {
            return None;
        };
        content.examples.insert(name.clone(), request);
    }
    Some(())
}

/// Where the answer with that status is described, in the media type that fits the example.
fn answer_content<'a>(
    operation: &'a mut Operation,
    status: u16,
    answer: &RefOr<utoipa::openapi::example::Example>,
) -> Option<&'a mut Content> {
    let RefOr::T(answer) = answer else {
        return None;
    };
    let responses = &mut operation.responses.responses;
    let RefOr::T(response) = responses.get_mut(&status.to_string())? else {
        return None;
    };
    let streamed = answer.value.as_ref().is_some_and(Value::is_string);
    let of_its_kind = |media_type: &str| (media_type == "text/event-stream") == streamed;
    let mut contents = response.content.iter_mut();
    match contents.find(|(media_type, _)| of_its_kind(media_type))?.1 {
        RefOr::T(content) => Some(content),
        RefOr::Ref(_) => None,
    }
}
