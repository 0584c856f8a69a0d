//! Answers to what is no request: the head itself can't be read.

use axum::http::{HeaderMap, StatusCode};

use super::problem::Problem;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::request_id::RequestId;

/// A whole HTTP response, its head included, to a request whose head was refused with `status`.
pub fn protocol_problem(status: u16) -> Vec<u8> {
    let (code, detail) = match status {
        414 => (
            ErrorCode::UriTooLong,
            "the URL is longer than this server reads; send data in the body",
        ),
        431 => (
            ErrorCode::HeadersTooLarge,
            "the headers are larger than this server reads, or there are more than 100 of them",
        ),
        _ => (
            ErrorCode::MalformedRequest,
            "this is not a request in HTTP/1.1, or its headers contradict each other",
        ),
    };
    let request_id = RequestId::from_headers(&HeaderMap::new());
    let problem = Problem::new(&ApiError::new(code, detail), &request_id);
    // A problem document is texts and numbers, which always serialise.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/problem+json\r\nx-request-id: {request_id}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    tracing::debug!(%status, %request_id, "a request's head can't be read");
    [head.into_bytes(), body].concat()
}
