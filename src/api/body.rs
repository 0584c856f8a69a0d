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
use super::admission::Place;
use super::availability::availability;
use super::error::{ApiError, ErrorCode};
use super::fields::{Fields, field_names, plural_hint};
use super::form_value::FormValue;
use super::image_source::ImageSource;
use super::json_object::JsonObject;
use super::options::Options;
use super::request_id::RequestId;

/// The fields that belong to one task alone.
pub trait TaskFields: DeserializeOwned {
    /// The names of the fields that carry images.
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

/// A request that was let in.
#[derive(Debug)]
pub struct Arrival {
    /// When the request's head had arrived.
    pub at: Instant,
    pub request_id: RequestId,
    /// Among the requests that are on their way to the engine.
    pub place: Place,
}

/// Lets a request in and has `read` receive its body, for as long as a body may take.
///
/// # Errors
/// When the model can't serve, when all places are taken, those of `read`, and when the body takes
/// too long.
pub async fn receive<B>(
    request: Request,
    state: &AppState,
    read: impl AsyncFnOnce(Request) -> Result<B, ApiError>,
) -> Result<(Arrival, B), ApiError> {
    let at = Instant::now();
    // Nothing is read from a client whom the model can't serve anyway.
    availability(&state.engine.state())?;
    let place = state.admission.enter(&state.engine)?;
    let request_id = RequestId::of(request.extensions());
    refuse_by_length(request.headers(), state.settings.max_body.as_u64())?;
    let limit = state.settings.request_timeout;
    let body = tokio::time::timeout(limit, read(request))
        .await
        .map_err(|_| {
            ApiError::new(
                ErrorCode::RequestTimeout,
                format!("the body did not arrive within {limit:?}"),
            )
        })??;
    let arrival = Arrival {
        at,
        request_id,
        place,
    };
    Ok((arrival, body))
}

impl<T: TaskFields> FromRequest<AppState> for Submission<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let read = async |request| read_body::<T>(request, state).await;
        let (arrival, (images, fields)) = receive(request, state, read).await?;
        let (task, options) = fields.parse(T::IMAGE_FIELDS)?;
        if images.is_empty() {
            return Err(ApiError::new(
                ErrorCode::MissingField,
                "an image is required: base64, a `data:` URL or an https URL in JSON, or a file in a form",
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

async fn read_body<T: TaskFields>(
    request: Request,
    state: &AppState,
) -> Result<(Vec<ImageSource>, Fields), ApiError> {
    match media_type(request.headers()).as_deref() {
        Some("application/json") => read_json::<T>(request, state).await,
        Some("multipart/form-data") => read_form::<T>(request, state).await,
        other => Err(unsupported(
            other,
            "`application/json` or `multipart/form-data`",
        )),
    }
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

/// A body that is a JSON object, and has to say so.
///
/// # Errors
/// When it is none, or does not arrive.
pub async fn read_json_object(request: Request, state: &AppState) -> Result<JsonObject, ApiError> {
    match media_type(request.headers()).as_deref() {
        Some("application/json") => read_object(request, state).await,
        other => Err(unsupported(other, "`application/json`")),
    }
}

async fn read_object(request: Request, state: &AppState) -> Result<JsonObject, ApiError> {
    let body = Bytes::from_request(request, state)
        .await
        .map_err(|rejection| bytes_error(rejection, state))?;
    serde_json::from_slice(&body)
        .map_err(|error| ApiError::new(ErrorCode::InvalidJson, error.to_string()))
}

async fn read_json<T: TaskFields>(
    request: Request,
    state: &AppState,
) -> Result<(Vec<ImageSource>, Fields), ApiError> {
    let JsonObject(mut entries) = read_object(request, state).await?;
    refuse_repeated::<T>(&entries)?;

    let most = most_images::<T>(state);
    let mut images = Vec::new();
    for name in T::IMAGE_FIELDS {
        if let Some(place) = entries.iter().position(|(entry, _)| entry == name) {
            let (_, value) = entries.remove(place);
            let sent = value.as_array().map_or(1, Vec::len);
            if images.len() + sent > most {
                return Err(too_many_images(name, most));
            }
            images.extend(images_of(name, value)?);
        }
    }
    Ok((images, Fields::Json(entries)))
}

fn refuse_repeated<T: TaskFields>(entries: &[(String, Value)]) -> Result<(), ApiError> {
    for (place, (name, _)) in entries.iter().enumerate() {
        if entries[..place].iter().any(|(earlier, _)| earlier == name) {
            let names = [T::IMAGE_FIELDS, field_names::<T>()].concat();
            let hint = plural_hint(name, &names);
            let detail =
                format!("`{name}` was sent more than once; which one is meant is unclear{hint}");
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

async fn read_form<T: TaskFields>(
    request: Request,
    state: &AppState,
) -> Result<(Vec<ImageSource>, Fields), ApiError> {
    let mut form = Multipart::from_request(request, state)
        .await
        .map_err(|rejection| ApiError::new(ErrorCode::InvalidMultipart, rejection.body_text()))?;
    let texts_known = [field_names::<T>(), field_names::<Options>()].concat();
    let most = most_images::<T>(state);
    let mut images = Vec::new();
    let mut entries: Vec<(String, FormValue)> = Vec::new();
    let mut part = 0;
    let mut texts = 0;
    let broken = |error| multipart_error(&error, state);
    while let Some(field) = form.next_field().await.map_err(broken)? {
        part += 1;
        let name = part_name(&field, part)?;
        if T::IMAGE_FIELDS.contains(&name.as_str()) {
            if images.len() == most {
                return Err(too_many_images(&name, most));
            }
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
        // Of a field that nobody knows, the name is all that matters: it may well be a file.
        let text = match texts_known.contains(&name.as_str()) {
            true => Some(text_of(&name, field.bytes().await.map_err(broken)?)?),
            false => None,
        };
        match entries.iter_mut().find(|(entry, _)| *entry == name) {
            Some((_, value)) => value.0.extend(text),
            None => entries.push((name, FormValue(text.into_iter().collect()))),
        }
    }
    Ok((images, Fields::Form(entries)))
}

fn text_of(name: &str, bytes: Bytes) -> Result<String, ApiError> {
    String::from_utf8(bytes.into()).map_err(|_| {
        ApiError::new(ErrorCode::InvalidField, format!("`{name}` is not UTF-8")).param(name)
    })
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

/// The most images that a request of this task may have.
fn most_images<T: TaskFields>(state: &AppState) -> usize {
    match T::IMAGE_FIELDS.contains(&"images") {
        true => state.settings.max_images,
        false => 1,
    }
}

fn too_many_images(param: &str, most: usize) -> ApiError {
    let detail = format!("this route takes at most {most} in one request, and more were sent");
    ApiError::new(ErrorCode::TooManyImages, detail).param(param)
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
