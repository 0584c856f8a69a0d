//! All routes in one list, and the layers around them.

use std::any::Any;
use std::sync::LazyLock;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa_axum::router::OpenApiRouter;

use super::AppState;
use super::middleware::admission::admit;
use super::middleware::auth::require_key;
use super::middleware::lingering_close::lingering_close;
use super::middleware::observe::{CLIENT_LEFT, observe};
use super::middleware::problems::write_problems;
use super::middleware::request_id;
use super::openai::{chat, completions};
use super::openapi;
use super::respond::error::{ApiError, ErrorCode};
use super::routes::document::Document;
use super::routes::{
    caption, detect, docs, document, generate, health, metrics as prometheus, models, ocr,
    playground, question, segment, vqa,
};
use crate::settings::Settings;
use crate::telemetry::metrics;

/// Routes by what they need.
struct Routes {
    /// Use the model: a key if the operator has set any, and admission.
    inference: List,
    /// A key if the operator has set any.
    keyed: List,
    /// Nothing: for machines beside the server.
    open: List,
}

/// Routes, and the method and path of each.
struct List {
    router: OpenApiRouter<AppState>,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for readers, and for the test that it is true")
    )]
    listed: &'static [(&'static str, &'static str)],
}

/// Lists routes. Method and path are also in the handler's `utoipa::path`, which generates the
/// contract; a test compares them.
macro_rules! list {
    ($($method:ident $path:literal => $($handler:ident)::+,)*) => {
        List {
            router: OpenApiRouter::default()$(.routes(utoipa_axum::routes!($($handler)::+)))*,
            listed: &[$((stringify!($method), $path),)*],
        }
    };
}

fn routes() -> Routes {
    Routes {
        inference: list! {
            POST "/v1/caption" => caption::caption,
            POST "/v1/vqa" => vqa::vqa,
            POST "/v1/question" => question::question,
            POST "/v1/ocr" => ocr::ocr,
            POST "/v1/detect" => detect::detect,
            POST "/v1/segment" => segment::segment,
            POST "/v1/generate" => generate::generate,
            POST "/v1/chat/completions" => chat::chat,
            POST "/v1/completions" => completions::completions,
        },
        keyed: list! {
            GET "/v1/models" => models::models,
            GET "/v1/models/{*id}" => models::model,
        },
        open: list! {
            GET "/health/live" => health::live,
            GET "/healthz" => health::healthz,
            GET "/health/ready" => health::ready,
            GET "/health" => health::health,
            GET "/readyz" => health::readyz,
            GET "/metrics" => prometheus::metrics,
            GET "/openapi.yaml" => document::document,
        },
    }
}

/// The pages, which are not part of the contract.
fn pages() -> Router<AppState> {
    Router::new()
        .merge(playground::routes()) // GET / and its files
        .merge(docs::routes()) // GET /docs and its files
}

/// The whole service.
pub fn router(state: AppState) -> Router {
    let Routes {
        inference,
        keyed,
        open,
    } = routes();
    let [inference, keyed, open] = [inference, keyed, open].map(|list| {
        let (router, document) = list.router.split_for_parts();
        register_routes(&document);
        router
    });
    let body_limit = usize::try_from(state.settings.max_body.as_u64()).unwrap_or(usize::MAX);
    let layers = ServiceBuilder::new()
        .layer(from_fn(observe))
        .layer(cors(&state.settings))
        .layer(from_fn(write_problems))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(lingering_close))
        .layer(DefaultBodyLimit::max(body_limit))
        .layer(Extension(Document(&DOCUMENT)));
    inference
        .route_layer(from_fn_with_state(state.clone(), admit))
        .merge(keyed)
        .route_layer(from_fn_with_state(state.settings.clone(), require_key))
        .merge(open)
        .merge(pages())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(layers)
        .with_state(state)
}

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let lists = routes();
    let lists = [lists.inference, lists.keyed, lists.open];
    openapi::document(lists.map(|list| list.router.into_openapi()))
});

/// The contract of all routes, as YAML. `openapi.yaml` is this text.
pub fn document() -> &'static str {
    &DOCUMENT
}

/// Starts the metrics of each route and status in the contract at 0, and those of the status that
/// stands for a client that left.
fn register_routes(document: &utoipa::openapi::OpenApi) {
    for (method, route, mut statuses) in openapi::operations(document) {
        statuses.push(CLIENT_LEFT);
        metrics::http_route(method, route, &statuses);
    }
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        format!(
            "there is no `{}`; see /openapi.yaml for what there is",
            uri.path()
        ),
    )
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        ErrorCode::MethodNotAllowed,
        format!(
            "`{}` does not take {method}; see the Allow header",
            uri.path()
        ),
    )
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!("a request handler panicked: {message}");
    // The message may hold what the client must not see.
    ApiError::new(ErrorCode::Internal, "the server failed; its log says how").into_response()
}

/// No origin listed: no header is sent, and browsers keep other sites out.
fn cors(settings: &Settings) -> CorsLayer {
    let origins = &settings.cors_origins;
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            request_id::HEADER,
        ])
        .expose_headers([request_id::HEADER, HeaderName::from_static("retry-after")]);
    if origins.iter().any(|origin| origin == "*") {
        return layer.allow_origin(AllowOrigin::any());
    }
    let listed = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok());
    layer.allow_origin(AllowOrigin::list(listed))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::extract::Request;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[test]
    fn the_list_names_the_methods_and_paths_of_the_contract() {
        let routes = routes();
        for list in [routes.inference, routes.keyed, routes.open] {
            let document = list.router.into_openapi();
            let mut described: Vec<_> = openapi::operations(&document)
                .map(|(method, path, _)| (method, path))
                .collect();
            let mut listed = list.listed.to_vec();
            described.sort_unstable();
            listed.sort_unstable();
            assert_eq!(listed, described);
        }
    }

    #[test]
    fn the_published_document_is_the_one_that_the_code_describes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.yaml");
        let published = std::fs::read_to_string(path).unwrap();
        assert!(
            published == document(),
            "openapi.yaml is out of date: run `cargo run -- openapi > openapi.yaml`"
        );
    }

    #[tokio::test]
    async fn a_handler_that_panics_answers_500_and_keeps_the_reason_to_itself() {
        async fn handler() -> &'static str {
            panic!("the reason")
        }
        let router: Router = Router::new()
            .route("/", get(handler))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(from_fn(write_problems));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), 500);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["code"], "internal");
        assert!(!problem["detail"].as_str().unwrap().contains("the reason"));
    }
}
