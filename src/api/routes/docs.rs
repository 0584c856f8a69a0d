//! `/docs`: the contract as a page that can be read and tried out, from this binary alone.

use std::sync::Arc;

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use utoipa_swagger_ui::{Config, SwaggerFile, serve};

use crate::api::error::{ApiError, ErrorCode};
use crate::api::middleware::observe::FileOf;
use crate::api::state::AppState;

/// Where the page is.
pub const PATH: &str = "/docs";

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
    let config = Arc::new(config);
    let file = async move |Path(name): Path<String>| file(&name, config);
    Router::new()
        .route(PATH, get(page))
        .route("/docs/", get(page))
        .route("/docs/{*file}", get(file))
        .layer(map_response(guarded))
}

async fn page() -> Html<&'static str> {
    Html(include_str!("../../web/docs.html"))
}

/// A file of Swagger UI.
fn file(name: &str, config: Arc<Config<'static>>) -> Result<Response, ApiError> {
    match serve(name, config) {
        Ok(Some(SwaggerFile {
            bytes,
            content_type,
            ..
        })) => Ok(([(header::CONTENT_TYPE, content_type)], bytes).into_response()),
        Ok(None) => {
            let detail = format!("there is no file `{name}` of the page `{PATH}`");
            Err(ApiError::new(ErrorCode::NotFound, detail))
        }
        Err(error) => Err(ApiError::new(ErrorCode::Internal, error.to_string())),
    }
}

async fn guarded(mut response: Response) -> impl IntoResponse {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    (Extension(FileOf(PATH)), response)
}
