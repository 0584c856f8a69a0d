//! Errors as clients see them: one list of codes, one type, one shape (RFC 9457).

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Beside `Retry-After`, the same in milliseconds: OpenAI's clients prefer it.
pub const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// Declares the codes with their status and title in one place, so that the enum, the documents and
/// the published contract can't differ.
macro_rules! error_codes {
    ($($name:ident => $status:ident, $title:literal;)*) => {
        /// What went wrong, as a word that clients can rely on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode { $($name,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The HTTP status that goes with the code.
            pub fn status(self) -> StatusCode {
                match self { $(ErrorCode::$name => StatusCode::$status,)* }
            }

            /// A short, fixed summary of the code.
            pub fn title(self) -> &'static str {
                match self { $(ErrorCode::$name => $title,)* }
            }
        }
    };
}

error_codes! {
    MalformedRequest => BAD_REQUEST, "Not a valid HTTP request";
    UriTooLong => URI_TOO_LONG, "The URL is too long";
    HeadersTooLarge => REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large";
    InvalidJson => BAD_REQUEST, "The body is not valid JSON";
    InvalidMultipart => BAD_REQUEST, "The body is not valid multipart/form-data";
    IncompleteBody => BAD_REQUEST, "The body ended too early";
    UnknownField => BAD_REQUEST, "Unknown field";
    RepeatedField => BAD_REQUEST, "A field was sent more than once";
    MissingField => BAD_REQUEST, "A required field is missing";
    InvalidField => BAD_REQUEST, "A field has the wrong type";
    InvalidAdapter => BAD_REQUEST, "The adapter can't be loaded";
    InvalidBase64 => BAD_REQUEST, "An image is not valid base64";
    Unauthorized => UNAUTHORIZED, "A valid API key is required";
    NotFound => NOT_FOUND, "No such route";
    ModelNotFound => NOT_FOUND, "No such model";
    ImageNotCached => NOT_FOUND, "The image is not here any more";
    MethodNotAllowed => METHOD_NOT_ALLOWED, "The route does not allow this method";
    RequestTimeout => REQUEST_TIMEOUT, "The body did not arrive in time";
    BodyTooLarge => PAYLOAD_TOO_LARGE, "The body is too large";
    ImageTooLarge => PAYLOAD_TOO_LARGE, "An image is too large";
    UnsupportedMediaType => UNSUPPORTED_MEDIA_TYPE, "The media type is not supported";
    UnsupportedImage => UNSUPPORTED_MEDIA_TYPE, "The image format is not supported";
    OutOfRange => UNPROCESSABLE_ENTITY, "A field is out of range";
    PromptTooLong => UNPROCESSABLE_ENTITY, "The prompt is too long";
    TooManyImages => UNPROCESSABLE_ENTITY, "Too many images";
    ImageEmpty => UNPROCESSABLE_ENTITY, "An image is empty";
    NotAnImage => UNPROCESSABLE_ENTITY, "That is not an image";
    ImageCorrupt => UNPROCESSABLE_ENTITY, "An image is damaged";
    ImageUrlNotAllowed => UNPROCESSABLE_ENTITY, "Images are not fetched from this URL";
    ImageFetchFailed => UNPROCESSABLE_ENTITY, "An image could not be fetched";
    QueueFull => TOO_MANY_REQUESTS, "The queue is full";
    RateLimited => TOO_MANY_REQUESTS, "The key has reached its limit";
    TooManyUploads => TOO_MANY_REQUESTS, "Too much is being received";
    ModelFailed => INTERNAL_SERVER_ERROR, "The model failed";
    Internal => INTERNAL_SERVER_ERROR, "Internal error";
    NoMaskDecoder => NOT_IMPLEMENTED, "This server has no mask decoder";
    Loading => SERVICE_UNAVAILABLE, "The model is loading";
    ShuttingDown => SERVICE_UNAVAILABLE, "The server is shutting down";
    TooManyConnections => SERVICE_UNAVAILABLE, "Too many connections";
    Unavailable => SERVICE_UNAVAILABLE, "The model is not available";
    DeadlineExceeded => GATEWAY_TIMEOUT, "The request ran out of time";
}

/// An error on its way to the client.
///
/// As a response it has its status and headers, but no body yet: the layer that knows the request
/// id and the route's dialect writes that (see [`crate::api::middleware::problems`]).
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct ApiError {
    pub code: ErrorCode,
    /// What was wrong, with which value, what is allowed.
    pub detail: String,
    /// The field to blame, such as `max_tokens` or `images[1]`.
    pub param: Option<String>,
    /// How long to wait before retrying.
    pub retry_after: Option<Duration>,
    /// The share of the model that is loaded, while it is loading.
    pub loaded: Option<f32>,
}

impl ApiError {
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            param: None,
            retry_after: None,
            loaded: None,
        }
    }

    /// Names the field to blame.
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Tells the client when to come back.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Tells the client how far the model is loaded, from 0 to 1.
    pub fn loaded(mut self, share: f32) -> Self {
        self.loaded = Some(share);
        self
    }

    /// A body larger than the server reads.
    pub fn body_too_large(max_body: u64) -> Self {
        let detail =
            format!("the body is larger than {max_body} bytes, the most this server reads");
        Self::new(ErrorCode::BodyTooLarge, detail)
    }

    /// A body whose connection ended.
    pub fn incomplete_body() -> Self {
        let detail = "the connection ended before the whole body had arrived";
        Self::new(ErrorCode::IncompleteBody, detail)
    }

    /// A value that is not allowed.
    pub fn out_of_range(param: &str, value: impl std::fmt::Display, allowed: &str) -> Self {
        let detail = format!("`{param}` is {value}; allowed is {allowed}");
        Self::new(ErrorCode::OutOfRange, detail).param(param)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up: the standard header knows nothing finer.
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            headers.insert(header::RETRY_AFTER, millis.div_ceil(1000).into());
            headers.insert(RETRY_AFTER_MS, millis.into());
        }
        if self.code == ErrorCode::Unauthorized {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"paligemma-server\""),
            );
        }
        response.extensions_mut().insert(self);
        response
    }
}
