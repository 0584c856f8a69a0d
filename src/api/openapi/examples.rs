//! The contract's examples: requests, and what the built-in demo answers to them. A test sends each
//! of them to the demo.
//!
//! Those with a recorded answer lie in one file per route beside this one. Requests that the demo
//! answers without having learnt to have none: they stand with their route, in its `utoipa::path`.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;
use serde_json::Value;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, OpenApi, RefOr};

/// A picture of 97 x 61 pixels, small enough to be read past.
const IMAGE: &[u8] = include_bytes!("../../../examples/images/small.gif");

const FILES: [&str; 12] = [
    include_str!("examples/caption.yaml"),
    include_str!("examples/vqa.yaml"),
    include_str!("examples/question.yaml"),
    include_str!("examples/detect.yaml"),
    include_str!("examples/segment.yaml"),
    include_str!("examples/generate.yaml"),
    include_str!("examples/chat.yaml"),
    include_str!("examples/completions.yaml"),
    include_str!("examples/operations.yaml"),
    include_str!("examples/adapters.yaml"),
    include_str!("examples/platforms.yaml"),
    include_str!("examples/label_studio.yaml"),
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
    /// A text when it is a stream.
    answer: Value,
}

/// Puts the examples with a recorded answer where they belong in `document`.
///
/// # Panics
/// When an example is of an operation, a status or a media type that `document` does not have.
pub fn add(document: &mut OpenApi) {
    for file in FILES {
        let examples: Vec<Example> = serde_yaml_ng::from_str(file).expect("a list of examples");
        for example in examples {
            let place = format!("{} {}", example.path, example.name);
            add_one(document, example).unwrap_or_else(|| panic!("no place for example {place}"));
        }
    }
}

/// `document` with a picture in all places where its examples say `IMAGE`.
pub fn insert_images(document: &str) -> String {
    let image = BASE64_STANDARD.encode(IMAGE);
    document.replace(": IMAGE\n", &format!(": data:image/gif;base64,{image}\n"))
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
    let content = answer_content(operation, example.status, example.answer.is_string())?;
    content.example = None;
    content
        .examples
        .insert(name.clone(), written(example.answer));
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

/// Where the answer with that status is described, as a stream or as JSON.
fn answer_content(operation: &mut Operation, status: u16, streamed: bool) -> Option<&mut Content> {
    let responses = &mut operation.responses.responses;
    let RefOr::T(response) = responses.get_mut(&status.to_string())? else {
        return None;
    };
    let of_its_kind = |media_type: &str| (media_type == "text/event-stream") == streamed;
    let mut contents = response.content.iter_mut();
    match contents.find(|(media_type, _)| of_its_kind(media_type))?.1 {
        RefOr::T(content) => Some(content),
        RefOr::Ref(_) => None,
    }
}
