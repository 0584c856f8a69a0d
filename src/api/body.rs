//! A request's body, JSON or a form, read into one [`Submission`].

use std::time::Instant;

use axum::body::Bytes;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::AppState;
use super::availability::availability;
use super::error::{ApiError, ErrorCode};
use super::fields::{Fields, JsonObject};
use super::form_value::FormValue;
use super::image_source::ImageSource;
use super::options::Options;
use super::request_id::RequestId;

/// The fields that belong to one task alone.
pub trait TaskFields: DeserializeOwned {
    /// The names of the fields that carry images in a JSON body.
    const IMAGE_FIELDS: &'static [&'static str];
}

/// One image, in the field `image`.
pub const ONE_IMAGE: &[&str] = &["image"];
/// One image in `image`, or a list in `images`.
pub const SEVERAL_IMAGES: &[&str] = &["image", "images"];

/// No form needs as many; it bounds what a hostile one costs.
const MAX_TEXT_PARTS: usize = 256;

/// What was asked of a task route, whatever kind of body it came in.
#[derive(Debug)]
pub struct Submission<T> {
    /// At least one, at most what the route takes.
    pub images: Vec<ImageSource>,
    pub task: T,
    pub options: Options,
    /// When the request's head had arrived.
    pub arrived: Instant,
    pub request_id: RequestId,
}

impl<T: TaskFields> FromRequest<AppState> for Submission<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let arrived = Instant::now();
        // Nothing is read from a client whom the model can't serve anyway.
        availability(&state.engine.state())?;
        let request_id = RequestId::of(request.extensions());

        let limit = state.settings.request_timeout;
        let (images, fields) = tokio::time::timeout(limit, read_body::<T>(request, state))
            .await
            .map_err(|_| {
                ApiError::new(
                    ErrorCode::RequestTimeout,
                    format!("the body did not arrive within {limit:?}"),
                )
            })??;
        let (task, options) = fields.parse(T::IMAGE_FIELDS)?;
        check_image_count::<T>(images.len(), state.settings.max_images)?;
        Ok(Self {
            images,
            task,
            options,
            arrived,
            request_id,
        })
    }
}

async fn read_body<T: TaskFields>(
    request: Request,
    state: &AppState,
) -> Result<(Vec<ImageSource>, Fields), ApiError> {
    refuse_by_length(request.headers(), state.settings.max_body.as_u64())?;
    match media_type(request.headers()).as_deref() {
        Some("application/json") => read_json::<T>(request, state).await,
        Some("multipart/form-data") => read_form(request, state).await,
        other => Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            format!(
                "the body's content-type is {}; send `application/json` or `multipart/form-data`",
                other.map_or("missing".to_owned(), |name| format!("`{name}`"))
            ),
        )),
    }
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default();
    Some(essence.trim().to_ascii_lowercase())
}

/// Says no before the body was sent, when its length is announced.
fn refuse_by_length(headers: &HeaderMap, max_body: u64) -> Result<(), ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match announced {
        Some(length) if length > max_body => Err(too_large(max_body)),
        _ => Ok(()),
    }
}

fn too_large(max_body: u64) -> ApiError {
    ApiError::new(
        ErrorCode::BodyTooLarge,
        format!(
            "the body is larger than {max_body} bytes, which is the most that this server reads"
        ),
    )
}

async fn read_json<T: TaskFields>(
    request: Request,
    state: &AppState,
) -> Result<(Vec<ImageSource>, Fields), ApiError> {
    let body = Bytes::from_request(request, state)
        .await
        .map_err(|rejection| bytes_error(rejection, state))?;
    let JsonObject(mut entries) = serde_json::from_slice(&body)
        .map_err(|error| ApiError::new(ErrorCode::InvalidJson, error.to_string()))?;
    refuse_repeated(&entries)?;

    let mut images = Vec::new();
    for name in T::IMAGE_FIELDS {
        if let Some(place) = entries.iter().position(|(entry, _)| entry == name) {
            images.extend(images_of(name, entries.remove(place).1)?);
        }
    }
    Ok((images, Fields::Json(entries)))
}

fn refuse_repeated(entries: &[(String, Value)]) -> Result<(), ApiError> {
    for (place, (name, _)) in entries.iter().enumerate() {
        if entries[..place].iter().any(|(earlier, _)| earlier == name) {
            let detail = format!("`{name}` was sent more than once; which one is meant is unclear");
            return Err(ApiError::new(ErrorCode::RepeatedField, detail).param(name));
        }
    }
    Ok(())
}

fn images_of(name: &str, value: Value) -> Result<Vec<ImageSource>, ApiError> {
    let expected = |param: String| {
        let detail = format!("`{param}` has to be a text: base64, a `data:` URL or an https URL");
        ApiError::new(ErrorCode::InvalidField, detail).param(param)
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![ImageSource::text(name, text)]),
        Value::Array(values) if name == "images" => values
            .into_iter()
            .enumerate()
            .map(|(index, value)| {
                let param = format!("{name}[{index}]");
                match value {
                    Value::String(text) => Ok(ImageSource::text(param, text)),
                    _ => Err(expected(param)),
                }
            })
            .collect(),
        _ => Err(expected(name.to_owned())),
    }
}

async fn read_form(
    request: Request,
    state: &AppState,
) -> Result<(Vec<ImageSource>, Fields), ApiError> {
    let mut form = Multipart::from_request(request, state)
        .await
        .map_err(|rejection| ApiError::new(ErrorCode::InvalidMultipart, rejection.body_text()))?;
    let mut images = Vec::new();
    let mut entries: Vec<(String, FormValue)> = Vec::new();
    let mut part = 0;
    let mut texts = 0;
    let broken = |error| multipart_error(&error, state);
    while let Some(field) = form.next_field().await.map_err(broken)? {
        part += 1;
        let name = part_name(&field, part)?;
        if SEVERAL_IMAGES.contains(&name.as_str()) {
            let param = format!("image[{}]", images.len());
            images.push(ImageSource::bytes(
                param,
                field.bytes().await.map_err(broken)?,
            ));
            continue;
        }
        texts += 1;
        if texts > MAX_TEXT_PARTS {
            return Err(ApiError::new(
                ErrorCode::InvalidMultipart,
                format!("the form has more than {MAX_TEXT_PARTS} text parts"),
            ));
        }
        let bytes = field.bytes().await.map_err(broken)?;
        let text = String::from_utf8(bytes.into()).map_err(|_| {
            ApiError::new(ErrorCode::InvalidField, format!("`{name}` is not UTF-8")).param(&name)
        })?;
        match entries.iter_mut().find(|(entry, _)| *entry == name) {
            Some((_, value)) => value.0.push(text),
            None => entries.push((name, FormValue(vec![text]))),
        }
    }
    Ok((images, Fields::Form(entries)))
}

fn part_name(field: &Field<'_>, part: usize) -> Result<String, ApiError> {
    match field.name() {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(ApiError::new(
            ErrorCode::InvalidMultipart,
            format!(
                "part {part} of the form has no name; write `name=\"…\"` in its content-disposition"
            ),
        )),
    }
}

fn check_image_count<T: TaskFields>(count: usize, max_images: usize) -> Result<(), ApiError> {
    let allowed = if T::IMAGE_FIELDS.contains(&"images") {
        max_images
    } else {
        1
    };
    match count {
        0 => Err(ApiError::new(
            ErrorCode::MissingField,
            "an image is required: base64, a `data:` URL or an https URL in JSON, or a file in a form",
        )
        .param("image")),
        count if count > allowed => Err(ApiError::new(
            ErrorCode::TooManyImages,
            format!("{count} images were sent; this route takes at most {allowed} in one request"),
        )
        .param(T::IMAGE_FIELDS[T::IMAGE_FIELDS.len() - 1])),
        _ => Ok(()),
    }
}

fn bytes_error(rejection: BytesRejection, state: &AppState) -> ApiError {
    match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(state.settings.max_body.as_u64()),
        _ => incomplete_body(),
    }
}

fn multipart_error(error: &MultipartError, state: &AppState) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(state.settings.max_body.as_u64()),
        StatusCode::BAD_REQUEST => ApiError::new(ErrorCode::InvalidMultipart, error.body_text()),
        _ => incomplete_body(),
    }
}

fn incomplete_body() -> ApiError {
    ApiError::new(
        ErrorCode::IncompleteBody,
        "the connection ended before the whole body had arrived",
    )
}
