//! The published contract, generated from what the routes say of themselves.

mod events;
mod examples;
mod problems;
mod requests;

use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi as _};

use crate::api::openai::OpenAiError;
use crate::api::respond::problem::Problem;
pub use events::{Events, ObjectEvents};
pub use problems::{
    AdapterProblems, KeyProblem, ModelProblems, NoDecoderProblem, OffProblem, Problems,
};
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

/// The document `yaml` as JSON, its members in the same order.
///
/// # Panics
/// When it is no YAML.
pub fn as_json(yaml: &str) -> String {
    let document: serde_yaml_ng::Value = serde_yaml_ng::from_str(yaml).expect("our own YAML");
    serde_json::to_string(&document).expect("its maps have texts as keys")
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
        (name = "platforms", description = "What serving platforms expect, if `kserve_routes` or `sagemaker_routes` is on."),
        (name = "labelling", description = "An ML backend for Label Studio, if `label_studio_routes` is on."),
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
