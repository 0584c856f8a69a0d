//! Decides which requests may use the model, before their bodies are read.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::api::admission::Admitted;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::kept_images::{AnsweredKeys, IMAGE_KEY};
use crate::api::readiness::readiness;
use crate::api::state::AppState;

/// The layer around all routes that use the model.
///
/// # Errors
/// When the model is not ready, when the queue is full, when the client has too many uploads, or when
/// the announced body is too large; the body is not read then.
pub async fn admit(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let at = Instant::now();
    readiness(&state)?;
    state.admission.refuse_if_full(&state.engine)?;
    refuse_compressed(request.headers())?;
    refuse_by_length(request.headers(), state.settings.max_body.as_u64())?;
    let upload = Arc::new(state.uploads.begin(&request)?);
    let image_keys = AnsweredKeys::default();
    request.extensions_mut().insert(Admitted {
        at,
        upload,
        image_keys: image_keys.clone(),
    });
    let mut response = next.run(request).await;
    if let Some(keys) = image_keys.header() {
        response.headers_mut().insert(IMAGE_KEY, keys);
    }
    Ok(response)
}

fn refuse_compressed(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let coding = coding.to_str().unwrap_or("something");
            let detail = format!(
                "the body's content-encoding is `{coding}`; send it as it is: images are compressed already"
            );
            Err(ApiError::new(ErrorCode::UnsupportedMediaType, detail))
        }
        _ => Ok(()),
    }
}

fn refuse_by_length(headers: &HeaderMap, max_body: u64) -> Result<(), ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match announced {
        Some(length) if length > max_body => Err(ApiError::body_too_large(max_body)),
        _ => Ok(()),
    }
}
