//! All routes, and the layers around them.

use std::any::Any;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::AppState;
use super::auth::require_key;
use super::error::{ApiError, ErrorCode};
use super::linger::linger;
use super::observe::{CLIENT_LEFT, observe};
use super::openapi;
use super::problem::write_problems;
use super::request_id;
use super::routes::{docs, playground};
use crate::settings::Settings;
use crate::telemetry::metrics;

/// The whole service.
pub fn router(state: AppState) -> Router {
    let body_limit = usize::try_from(state.settings.max_body.as_u64()).unwrap_or(usize::MAX);
    // `/v1` alone needs a key; health and metrics are for machines beside the server.
    let (tasks, tasks_document) = openapi::keyed_routes().split_for_parts();
    let (open, open_document) = openapi::open_routes().split_for_parts();
    for document in [&tasks_document, &open_document] {
        register_routes(document);
    }
    let key = from_fn_with_state(state.settings.clone(), require_key);
    let layers = ServiceBuilder::new()
        .layer(from_fn(observe))
        .layer(cors(&state.settings))
        .layer(from_fn(write_problems))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(linger))
        .layer(DefaultBodyLimit::max(body_limit));
    tasks
        .route_layer(key)
        .merge(open)
        .merge(playground::routes())
        .merge(docs::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(layers)
        .with_state(state)
}

/// Makes the metrics of each route and status that the contract names, at 0; also of the one that
/// stands for no answer.
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
