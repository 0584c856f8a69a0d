//! What is answered before there is a model to speak of: while a checkpoint is being downloaded.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::error::{ApiError, ErrorCode};
use super::middleware::problems::write_problems;
use super::readiness::RETRY_AFTER;
use super::request_id::{HEADER, RequestId};
use super::routes::health;
use super::routes::metrics::CONTENT_TYPE;
use crate::telemetry::metrics::before_the_engine;

/// The process is alive and not ready, which its metrics say, too.
pub fn fetching() -> Router {
    Router::new()
        .route("/health/live", get(health::live))
        .route("/healthz", get(health::healthz))
        .route("/metrics", get(metrics))
        .fallback(not_yet)
        .layer(from_fn(write_problems))
        .layer(from_fn(identify))
}

async fn metrics() -> impl IntoResponse {
    (CONTENT_TYPE, before_the_engine())
}

async fn not_yet() -> ApiError {
    let detail = "the model is still being fetched; the server's log tells how far it is";
    ApiError::new(ErrorCode::Loading, detail)
        .loaded(0.0)
        .retry_after(RETRY_AFTER)
}

async fn identify(mut request: Request, next: Next) -> Response {
    let id = RequestId::from_headers(request.headers());
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    response.headers_mut().insert(HEADER, id.header_value());
    response
}
