//! The published contract, made from the routes themselves.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder,
};
use utoipa::{IntoResponses, Modify, OpenApi as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::error::ErrorCode;
use super::examples;
use super::openai::{OpenAiError, SharedFields, chat, completions};
use super::options::Options;
use super::problem::Problem;
use super::response::{Delta, Done, ObjectFound, TaskResult};
use super::routes::{
    caption, detect, document, generate, health, metrics, models, ocr, question, segment, vqa,
};

/// The document, as YAML. `openapi.yaml` is this text.
pub fn document() -> String {
    let mut document = Document::openapi();
    document.merge(keyed_routes().into_openapi());
    document.merge(open_routes().into_openapi());
    // The router's mark of a parameter that may hold slashes is unknown to OpenAPI.
    let paths = std::mem::take(&mut document.paths.paths).into_iter();
    document.paths.paths = paths
        .map(|(path, item)| (path.replace("{*", "{"), item))
        .collect();
    examples::add(&mut document);
    serde_yaml_ng::to_string(&document).expect("a document of maps, lists and texts serialises")
}

/// The routes that need a key when the operator has set any.
pub fn keyed_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::default()
        .routes(routes!(caption::caption))
        .routes(routes!(vqa::vqa))
        .routes(routes!(question::question))
        .routes(routes!(ocr::ocr))
        .routes(routes!(detect::detect))
        .routes(routes!(segment::segment))
        .routes(routes!(generate::generate))
        .routes(routes!(chat::chat))
        .routes(routes!(completions::completions))
        .routes(routes!(models::models))
        .routes(routes!(models::model))
}

/// The routes that never need a key.
pub fn open_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::default()
        .routes(routes!(health::live))
        .routes(routes!(health::healthz))
        .routes(routes!(health::ready))
        .routes(routes!(health::health))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
        .routes(routes!(document::document))
}

/// Method, path and statuses of every operation in `document`.
pub fn operations(document: &OpenApi) -> impl Iterator<Item = (&'static str, &str, Vec<u16>)> {
    document.paths.paths.iter().flat_map(|(path, item)| {
        let methods = [("GET", &item.get), ("POST", &item.post)];
        methods.into_iter().filter_map(move |(method, operation)| {
            let statuses = statuses(operation.as_ref()?);
            Some((method, path.as_str(), statuses))
        })
    })
}

fn statuses(operation: &Operation) -> Vec<u16> {
    let statuses = operation.responses.responses.keys();
    statuses.filter_map(|status| status.parse().ok()).collect()
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "paligemma-server",
        description = "Captions, answers, texts, boxes, masks and free prompts about images, by PaliGemma.\n\n\
            Images are sent as files in a form, or in JSON as base64, as a `data:` URL, or as an \
            https URL of a host that the operator has allowed. Errors are problem documents (RFC \
            9457) with a stable `code`. Every answer has an `x-request-id`; send one of your own to \
            choose it.",
    ),
    tags(
        (name = "tasks", description = "What the model does."),
        (name = "openai", description = "The same for clients of OpenAI's API."),
        (name = "operations", description = "For whoever runs the server."),
    ),
    components(schemas(Problem, OpenAiError)),
    modifiers(&Key),
)]
struct Document;

/// The security scheme, which utoipa has no attribute for.
struct Key;

impl Modify for Key {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", scheme);
    }
}

/// A request with one image, as JSON.
#[derive(ToSchema)]
pub struct ImageJson<T> {
    /// Base64, a `data:` URL, or an https URL of an allowed host.
    #[schema(example = "data:image/png;base64,iVBORw0KGgo…")]
    pub image: String,
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub options: Options,
}

/// A request with one or several images, as JSON. Either `image` or `images` is required.
#[derive(ToSchema)]
pub struct ImagesJson<T> {
    /// Base64, a `data:` URL, or an https URL of an allowed host.
    #[schema(example = "data:image/png;base64,iVBORw0KGgo…")]
    pub image: Option<String>,
    /// Several of them.
    pub images: Option<Vec<String>>,
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub options: Options,
}

/// A request with one image, as a form.
#[derive(ToSchema)]
pub struct ImageForm<T> {
    /// The image file.
    #[schema(value_type = String, format = Binary)]
    pub image: Vec<u8>,
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub options: Options,
}

/// A request with one or several images, as a form.
#[derive(ToSchema)]
pub struct ImagesForm<T> {
    /// The image files: repeat the field for several.
    #[schema(value_type = Vec<String>, format = Binary)]
    pub image: Vec<Vec<u8>>,
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub options: Options,
}

/// A request of a client of OpenAI's API.
#[derive(ToSchema)]
pub struct OpenAiJson<T> {
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub shared: SharedFields,
}

/// The data of one server-sent event, when `stream` is true; the event's name says which it is.
///
/// `delta` (a piece of text) and `result` (a whole result), for several images or questions side by
/// side, then `done`; or `error`, which ends the stream. Lines that begin with a colon are comments
/// that keep the connection alive. Nothing is sent before the first event, not even the status: so
/// what fails before it has its own status instead of an `error` event.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum Events<T> {
    Delta(Delta),
    Result(TaskResult<T>),
    Done(Done),
    Error(Problem),
}

/// The data of one server-sent event, when `stream` is true; the event's name says which it is.
///
/// As for other tasks, and `object` for each object as soon as it is complete; `result` has all of
/// them once more.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum ObjectEvents<O, T> {
    Delta(Delta),
    Object(ObjectFound<O>),
    Result(TaskResult<T>),
    Done(Done),
    Error(Problem),
}

/// Every problem that a task route answers with.
pub struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let of_other_routes = [
            ErrorCode::NotFound,
            ErrorCode::ModelNotFound,
            ErrorCode::MethodNotAllowed,
            ErrorCode::NoMaskDecoder,
        ];
        let codes = ErrorCode::ALL.iter().copied();
        problems(codes.filter(|code| !of_other_routes.contains(code)))
    }
}

/// The problem of a missing or wrong key.
pub struct KeyProblem;

impl IntoResponses for KeyProblem {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems([ErrorCode::Unauthorized].into_iter())
    }
}

/// The problem of a server that can't decode masks.
pub struct NoDecoderProblem;

impl IntoResponses for NoDecoderProblem {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems([ErrorCode::NoMaskDecoder].into_iter())
    }
}

/// The problems of asking for one model.
pub struct ModelProblems;

impl IntoResponses for ModelProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems([ErrorCode::Unauthorized, ErrorCode::ModelNotFound].into_iter())
    }
}

/// One response for each status, which lists the codes that go with it.
fn problems(codes: impl Iterator<Item = ErrorCode>) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for code in codes {
        let name = serde_json::to_value(code).unwrap_or_default();
        let line = format!(
            "- `{}`: {}",
            name.as_str().unwrap_or_default(),
            code.title()
        );
        by_status
            .entry(code.status().as_u16())
            .or_default()
            .push(line);
    }
    by_status
        .into_iter()
        .map(|(status, lines)| (status.to_string(), problem_response(status, &lines).into()))
        .collect()
}

fn problem_response(status: u16, lines: &[String]) -> Response {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(Problem::name())))
        .build();
    let response = ResponseBuilder::new()
        .description(lines.join("\n"))
        .content("application/problem+json", content);
    let header = match status {
        401 => Some(("WWW-Authenticate", "`Bearer`: how to send the key.")),
        429 | 503 => Some(("Retry-After", "Seconds after which to try again.")),
        _ => None,
    };
    match header {
        Some((name, meaning)) => {
            let header = HeaderBuilder::new().description(Some(meaning));
            response.header(name, header.build()).build()
        }
        None => response.build(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_published_document_is_the_one_that_the_code_describes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.yaml");
        let published = std::fs::read_to_string(path).unwrap();
        assert!(
            published == super::document(),
            "openapi.yaml is out of date: run `cargo run -- openapi > openapi.yaml`"
        );
    }
}
