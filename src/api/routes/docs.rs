//! `/docs`: the contract as a page that can be read and tried out, from this binary alone.

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::api::error::{ApiError, ErrorCode};
use crate::api::state::AppState;

/// Nothing from elsewhere. Swagger UI styles elements as it draws them, and has its icons in data.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
     base-uri 'none'; frame-ancestors 'none'",
);

/// The page and its files.
pub fn routes() -> Router<AppState> {
    let config = Config::from("/openapi.yaml")
        // The badge of a service on the internet that would be sent this server's address.
        .validator_url("none")
        .try_it_out_enabled(true)
        .display_request_duration(true)
        // The list of all schemas, below the routes that show theirs.
        .default_models_expand_depth(-1);
    let page: Router<AppState> = SwaggerUi::new("/docs").config(config).into();
    page.layer(map_response(guarded))
}

async fn guarded(mut response: Response) -> Response {
    if response.status() == StatusCode::NOT_FOUND {
        let detail = "there is no such file of the page `/docs`";
        return ApiError::new(ErrorCode::NotFound, detail).into_response();
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
