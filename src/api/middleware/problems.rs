//! The bodies of error responses, written in one place for all routes.

use axum::Json;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api::error::{ApiError, ErrorCode};
use crate::api::openai::{self, OpenAiError};
use crate::api::request_id::RequestId;
use crate::api::respond::problem::Problem;

/// Gives responses made from an [`ApiError`] their body: a problem document, or OpenAI's error object
/// on the routes that are OpenAI's.
pub async fn write_problems(request: Request, next: Next) -> Response {
    let request_id = RequestId::of(request.extensions());
    let path = request.extensions().get::<MatchedPath>();
    let openai = path.is_some_and(|path| openai::ROUTES.contains(&path.as_str()));
    let mut response = next.run(request).await;
    let Some(error) = response.extensions_mut().remove::<ApiError>() else {
        return response;
    };
    // Loading and shutting down are normal, and probes ask all the time meanwhile.
    let expected = matches!(error.code, ErrorCode::Loading | ErrorCode::ShuttingDown);
    if error.code.status().is_server_error() && !expected {
        tracing::warn!(code = ?error.code, "request failed: {error}");
    }
    let (mut parts, _) = response.into_parts();
    let (document, content_type) = match openai {
        true => (
            Json(OpenAiError::new(&error)).into_response(),
            "application/json",
        ),
        false => (
            Json(Problem::new(&error, &request_id)).into_response(),
            "application/problem+json",
        ),
    };
    // The error's own length was that of an empty body.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts
        .headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Response::from_parts(parts, document.into_body())
}
