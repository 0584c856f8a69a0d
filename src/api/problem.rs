//! Problem documents (RFC 9457): how the native routes write an [`ApiError`], and where that is
//! decided.

use axum::Json;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{ApiError, ErrorCode};
use super::openai::{self, OpenAiError};
use super::request_id::RequestId;

/// What went wrong, as `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// A stable word for what went wrong; the one field to branch on.
    pub code: ErrorCode,
    /// A short, fixed summary of the code.
    pub title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    pub status: u16,
    /// What was wrong, with which value, and what is allowed.
    pub detail: String,
    /// The field to blame, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "max_tokens")]
    pub param: Option<String>,
    /// The same as in the `x-request-id` header.
    pub request_id: String,
}

impl Problem {
    pub fn new(error: &ApiError, request_id: &RequestId) -> Self {
        Self {
            code: error.code,
            title: error.code.title(),
            status: error.code.status().as_u16(),
            detail: error.detail.clone(),
            param: error.param.clone(),
            request_id: request_id.to_string(),
        }
    }
}

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
    // Loading and shutting down are how a server lives, and probes ask all the time meanwhile.
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
