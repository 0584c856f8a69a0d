//! A request's body, JSON or a form, read into one [`Submission`].

use std::time::Instant;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;

use super::form_body::read_form;
use super::image_source::ImageSource;
use super::json_body::read_json;
use super::options::Options;
use super::task_fields::TaskFields;
use crate::api::admission::{Admitted, Permit};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::kept_images::{AnsweredKeys, Owner};
use crate::api::request_id::RequestId;
use crate::api::request_usage::RequestUsage;
use crate::api::state::AppState;
use crate::api::uploads::Received;

/// What was asked of a task route, whatever kind of body it came in.
#[derive(Debug)]
pub struct Submission<T> {
    pub task: T,
    pub common: Common,
}

/// What every task's request has.
#[derive(Debug)]
pub struct Common {
    /// At least one, at most what the route takes.
    pub images: Vec<ImageSource>,
    pub options: Options,
    pub arrival: Arrival,
}

/// When and as what an admitted request arrived. Clones, of a request that submits several times, share its
/// place and its memory.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// When the request's head had arrived.
    pub at: Instant,
    pub request_id: RequestId,
    pub usage: RequestUsage,
    /// Who may name its images later.
    pub owner: Owner,
    pub image_keys: AnsweredKeys,
    /// To be held until the engine has taken the request.
    pub permit: Permit,
    pub received: Received,
}

/// Lets `read` receive the body of an admitted request, which then gets its place before the engine.
///
/// # Errors
/// Those of `read`; when the body is too slow or there is no memory for it; when all places are
/// taken.
pub async fn receive<B>(
    mut request: Request,
    state: &AppState,
    read: impl AsyncFnOnce(Request) -> Result<B, ApiError>,
) -> Result<(Arrival, B), ApiError> {
    let admitted = request.extensions_mut().remove::<Admitted>();
    let Some(admitted) = admitted else {
        let detail = "this route lacks the admission layer";
        return Err(ApiError::new(ErrorCode::Internal, detail));
    };
    let request_id = RequestId::of(request.extensions());
    let usage = RequestUsage::of(request.extensions());
    let owner = request.extensions().get().cloned();
    let Admitted {
        at,
        upload,
        image_keys,
    } = admitted;
    let (received, body) = upload.receive(request, read).await?;
    drop(upload);
    let permit = state.admission.acquire()?;
    let arrival = Arrival {
        at,
        request_id,
        usage,
        owner,
        image_keys,
        permit,
        received,
    };
    Ok((arrival, body))
}

impl<T: TaskFields> FromRequest<AppState> for Submission<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let read = async |request| read_body::<T>(request, state).await;
        let (arrival, body) = receive(request, state, read).await?;
        Self::of(arrival, body)
    }
}

/// Images, the task's fields, and the options of a body.
type Body<T> = (Vec<ImageSource>, T, Options);

impl<T: TaskFields> Submission<T> {
    /// What a body in JSON says.
    ///
    /// # Errors
    /// Those of [`read_json`]; no image.
    pub fn read(arrival: Arrival, body: &Bytes, state: &AppState) -> Result<Self, ApiError> {
        Self::of(arrival, read_json(body, T::max_images(&state.settings))?)
    }

    fn of(arrival: Arrival, (images, task, options): Body<T>) -> Result<Self, ApiError> {
        if images.is_empty() {
            return Err(ApiError::new(
                ErrorCode::MissingField,
                "an image is required: base64, a `data:` URL or an https URL in JSON, a file in a form, or the `image_key` of one that was sent before",
            )
            .param("image"));
        }
        let common = Common {
            images,
            options,
            arrival,
        };
        Ok(Self { task, common })
    }
}

async fn read_body<T: TaskFields>(request: Request, state: &AppState) -> Result<Body<T>, ApiError> {
    match media_type(request.headers()).as_deref() {
        Some("application/json") => {
            let body = bytes(request, state).await?;
            read_json(&body, T::max_images(&state.settings))
        }
        Some("multipart/form-data") => read_form(request, state).await,
        other => Err(unsupported(
            other,
            "`application/json` or `multipart/form-data`",
        )),
    }
}

/// The bytes of a body whose type has to be JSON.
///
/// # Errors
/// When the type is another, and when the body does not arrive whole.
pub async fn json_bytes(request: Request, state: &AppState) -> Result<Bytes, ApiError> {
    match media_type(request.headers()).as_deref() {
        Some("application/json") => bytes(request, state).await,
        other => Err(unsupported(other, "`application/json`")),
    }
}

async fn bytes(request: Request, state: &AppState) -> Result<Bytes, ApiError> {
    let failed = |rejection: BytesRejection| match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::body_too_large(state.settings.max_body.as_u64()),
        _ => ApiError::incomplete_body(),
    };
    Bytes::from_request(request, state).await.map_err(failed)
}

fn unsupported(found: Option<&str>, allowed: &str) -> ApiError {
    let found = found.map_or("missing".to_owned(), |name| format!("`{name}`"));
    let detail = format!("the body's content-type is {found}; send {allowed}");
    ApiError::new(ErrorCode::UnsupportedMediaType, detail)
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default();
    Some(essence.trim().to_ascii_lowercase())
}
