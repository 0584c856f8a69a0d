//! Problem documents (RFC 9457): how the native routes report an [`ApiError`].

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::error::{ApiError, ErrorCode};
use crate::api::request_id::RequestId;

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
    /// The share of the model that is loaded, from 0 to 1; only with `loading`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 0.42)]
    pub loaded: Option<f32>,
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
            loaded: error.loaded,
            request_id: request_id.to_string(),
        }
    }
}
