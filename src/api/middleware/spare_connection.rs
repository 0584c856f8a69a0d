//! Connections beyond the server's bound answer health checks and metrics alone.

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api::error::{ApiError, ErrorCode};
use crate::api::readiness::RETRY_AFTER;

/// An extension of requests on such a connection.
#[derive(Debug, Clone, Copy)]
pub struct SpareConnection;

/// Paths that are answered all the same.
const ANSWERED: [&str; 4] = ["/health", "/healthz", "/readyz", "/metrics"];

/// Refuses what came on a spare connection, which then ends.
pub async fn refuse_on_spare(request: Request, next: Next) -> Response {
    let spare = request.extensions().get::<SpareConnection>().is_some();
    let path = request.uri().path();
    let answered = ANSWERED.contains(&path) || path.starts_with("/health/");
    let mut response = match spare && !answered {
        true => {
            let detail = "the server has as many connections as it takes, all of them with requests under way; close some, or try again";
            ApiError::new(ErrorCode::TooManyConnections, detail)
                .retry_after(RETRY_AFTER)
                .into_response()
        }
        false => next.run(request).await,
    };
    if spare {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}
