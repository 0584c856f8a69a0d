//! The service: all routes, and the layers around them.

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

use super::error::{ApiError, ErrorCode, RETRY_AFTER_MS};
use super::kept_images::IMAGE_KEY;
use super::middleware::admission::admit;
use super::middleware::auth::{require_key, require_key_for_pages};
use super::middleware::lingering_close::lingering_close;
use super::middleware::observe::{TRACE_RESPONSE, observe};
use super::middleware::problems::write_problems;
use super::middleware::spare_connection::refuse_on_spare;
use super::openapi;
use super::platforms::vertex;
use super::request_id;
use super::routes::document::Document;
use super::routes::{Optional, Routes, docs, pages, routes};
use super::state::AppState;
use super::unknown;
use crate::settings::Settings;

/// The whole service.
pub fn router(state: AppState) -> Router {
    let Routes {
        inference,
        keyed,
        admin,
        open,
    } = routes(Optional::of(&state.settings));
    let docs = vec![("GET", docs::PATH)];
    let known = [&inference, &keyed, &admin, &open].map(|list| list.listed.clone());
    let known = [known.concat(), docs].concat();
    let [mut inference, keyed, admin, mut open] =
        [inference, keyed, admin, open].map(|list| list.router.split_for_parts().0);
    if let Some(vertex) = &state.settings.vertex {
        let is_route = |path: &str| known.iter().any(|(_, known)| *known == path);
        inference = inference.merge(vertex::predictions(vertex, is_route));
        open = open.merge(vertex::health(vertex, is_route));
    }
    let not_found = async move |uri: Uri| unknown::not_found(&uri, &known);
    let admin = match state.settings.adapter_admin {
        true => admin.route_layer(from_fn_with_state(state.admin_keys.clone(), require_key)),
        false => admin,
    };
    let body_limit = usize::try_from(state.settings.max_body.as_u64()).unwrap_or(usize::MAX);
    let layers = ServiceBuilder::new()
        .layer(from_fn_with_state(state.clone(), observe))
        .layer(cors(&state.settings))
        .layer(from_fn(write_problems))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(refuse_on_spare))
        .layer(from_fn(lingering_close))
        .layer(DefaultBodyLimit::max(body_limit))
        .layer(Extension(Document {
            yaml: &YAML,
            json: &JSON,
        }));
    inference
        .route_layer(from_fn_with_state(state.clone(), admit))
        .merge(keyed)
        .route_layer(from_fn_with_state(state.keys.clone(), require_key))
        .merge(admin)
        .merge(
            open.merge(pages())
                .route_layer(from_fn_with_state(state.clone(), require_key_for_pages)),
        )
        .fallback(not_found)
        .method_not_allowed_fallback(unknown::method_not_allowed)
        .layer(layers)
        .with_state(state)
}

static YAML: LazyLock<String> = LazyLock::new(|| {
    let lists = routes(Optional::ALL);
    let lists = [lists.inference, lists.keyed, lists.admin, lists.open];
    openapi::document(lists.map(|list| list.router.into_openapi()))
});

static JSON: LazyLock<String> = LazyLock::new(|| openapi::as_json(&YAML));

/// The contract of all routes, as YAML. `openapi.yaml` is this text.
pub fn document() -> &'static str {
    &YAML
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
            HeaderName::from_static("x-api-key"),
            HeaderName::from_static("traceparent"),
            HeaderName::from_static("tracestate"),
            request_id::HEADER,
            IMAGE_KEY,
        ])
        .expose_headers([
            request_id::HEADER,
            TRACE_RESPONSE,
            header::RETRY_AFTER,
            RETRY_AFTER_MS,
            IMAGE_KEY,
        ]);
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
    fn the_published_document_matches_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.yaml");
        let published = std::fs::read_to_string(path).unwrap();
        assert!(
            published == document(),
            "openapi.yaml is out of date: run `cargo run -- openapi > openapi.yaml`"
        );
    }

    #[tokio::test]
    async fn a_handler_that_panics_answers_500_without_the_reason() {
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
