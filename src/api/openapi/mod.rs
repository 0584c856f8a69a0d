//! The published contract, generated from what the routes say of themselves.

mod events;
mod examples;
mod problems;
mod requests;

use utoipa::openapi::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi as _};

use crate::api::openai::OpenAiError;
use crate::api::respond::problem::Problem;
pub use events::{Events, ObjectEvents};
pub use problems::{KeyProblem, ModelProblems, NoDecoderProblem, Problems};
pub use requests::{ImageForm, ImageJson, ImagesForm, ImagesJson};

/// The document of `routes`, as YAML.
///
/// # Panics
/// When the routes and the examples do not fit together.
pub fn document(routes: impl IntoIterator<Item = OpenApi>) -> String {
    let mut document = Document::openapi();
    for routes in routes {
        document.merge(routes);
    }
    // The router's mark of a parameter that may hold slashes is unknown to OpenAPI.
    let paths = std::mem::take(&mut document.paths.paths).into_iter();
    document.paths.paths = paths
        .map(|(path, item)| (path.replace("{*", "{"), item))
        .collect();
    events::name(&mut document);
    requests::complete(&mut document);
    examples::add(&mut document);
    let yaml = serde_yaml_ng::to_string(&document);
    examples::insert_images(&yaml.expect("a document of maps, lists and texts serialises"))
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
