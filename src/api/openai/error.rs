//! OpenAI's error object.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::api::error::{ApiError, ErrorCode};

/// What went wrong, as OpenAI's clients expect it.
#[derive(Debug, Serialize, ToSchema)]
pub struct OpenAiError {
    error: OpenAiErrorBody,
}

/// The inside of an error.
#[derive(Debug, Serialize, ToSchema)]
pub struct OpenAiErrorBody {
    /// What was wrong, with which value, and what is allowed.
    message: String,
    /// `invalid_request_error`, `rate_limit_error` or `server_error`.
    #[schema(example = "invalid_request_error")]
    r#type: &'static str,
    /// The field to blame, when there is one.
    param: Option<String>,
    /// A stable word for what went wrong, the same as on the other routes.
    code: ErrorCode,
}

impl OpenAiError {
    pub fn new(error: &ApiError) -> Self {
        let status = error.code.status();
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            _ if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        Self {
            error: OpenAiErrorBody {
                message: error.detail.clone(),
                r#type: kind,
                param: error.param.clone(),
                code: error.code,
            },
        }
    }
}

/// Every status with which OpenAI's routes refuse or fail.
pub struct OpenAiProblems;

impl IntoResponses for OpenAiProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let of_other_routes = [
            ErrorCode::NotFound,
            ErrorCode::MethodNotAllowed,
            ErrorCode::InvalidMultipart,
            ErrorCode::UnknownField,
            ErrorCode::RepeatedField,
            ErrorCode::NoMaskDecoder,
            ErrorCode::MalformedRequest,
            ErrorCode::UriTooLong,
            ErrorCode::HeadersTooLarge,
        ];
        let codes = ErrorCode::ALL.iter();
        let mut titles: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
        for code in codes.filter(|code| !of_other_routes.contains(code)) {
            let status = code.status().as_u16();
            titles.entry(status).or_default().push(code.title());
        }
        let response = |(status, titles): (u16, Vec<&str>)| {
            let schema = Ref::from_schema_name(OpenAiError::name());
            let content = ContentBuilder::new().schema(Some(schema)).build();
            let response = ResponseBuilder::new()
                .description(titles.join("; "))
                .content("application/json", content)
                .build();
            (status.to_string(), response.into())
        };
        titles.into_iter().map(response).collect()
    }
}
