//! The published contract, made from the routes themselves.

mod events;
mod examples;
mod problems;
mod requests;

use utoipa::openapi::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::openai::{OpenAiError, chat, completions};
use super::problem::Problem;
use super::routes::{
    caption, detect, document, generate, health, metrics, models, ocr, question, segment, vqa,
};
pub use events::{Events, ObjectEvents};
pub use problems::{KeyProblem, ModelProblems, NoDecoderProblem, Problems};
pub use requests::{ImageForm, ImageJson, ImagesForm, ImagesJson, OpenAiJson};

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
    events::name(&mut document);
    requests::complete(&mut document);
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
