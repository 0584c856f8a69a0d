//! A task's request as a form, `multipart/form-data`.

use axum::body::Bytes;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::StatusCode;

use super::field_names::field_names;
use super::fields::Fields;
use super::form_value::FormValue;
use super::image_source::ImageSource;
use super::options::Options;
use super::task_fields::{TaskFields, names_keys, too_many_images};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::state::AppState;

/// No form needs as many; it bounds what a hostile one costs.
const MAX_TEXT_PARTS: usize = 256;

/// Reads the images, the task's fields and the options.
///
/// # Errors
/// A form that is none or ends early, fields that are unknown, missing, repeated or of a wrong type,
/// and too many images.
pub async fn read_form<T: TaskFields>(
    request: Request,
    state: &AppState,
) -> Result<(Vec<ImageSource>, T, Options), ApiError> {
    let mut form = Multipart::from_request(request, state)
        .await
        .map_err(|rejection| ApiError::new(ErrorCode::InvalidMultipart, rejection.body_text()))?;
    let texts_known = [field_names::<T>(), field_names::<Options>()].concat();
    let most = T::max_images(&state.settings);
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
            let bytes = field.bytes().await.map_err(broken)?;
            images.push(image(&name, images.len(), bytes)?);
            continue;
        }
        texts += 1;
        if texts > MAX_TEXT_PARTS {
            return Err(ApiError::new(
                ErrorCode::InvalidMultipart,
                format!("the form has more than {MAX_TEXT_PARTS} text parts"),
            ));
        }
        // Of an unknown field only the name matters: it may well be a file.
        let text = match texts_known.contains(&name.as_str()) {
            true => Some(text_of(&name, field.bytes().await.map_err(broken)?)?),
            false => None,
        };
        match entries.iter_mut().find(|(entry, _)| *entry == name) {
            Some((_, value)) => value.0.extend(text),
            None => entries.push((name, FormValue(text.into_iter().collect()))),
        }
    }
    let (task, options) = Fields::Form(entries).parse(T::IMAGE_FIELDS)?;
    Ok((images, task, options))
}

/// An image's file or, by its name, the key of one that was sent before; `index` counts them all.
fn image(name: &str, index: usize, bytes: Bytes) -> Result<ImageSource, ApiError> {
    match names_keys(name) {
        true => Ok(ImageSource::key(name, text_of(name, bytes)?)),
        false => Ok(ImageSource::file(format!("image[{index}]"), bytes)),
    }
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

fn multipart_error(error: &MultipartError, state: &AppState) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::body_too_large(state.settings.max_body.as_u64()),
        StatusCode::BAD_REQUEST => ApiError::new(ErrorCode::InvalidMultipart, error.body_text()),
        _ => ApiError::incomplete_body(),
    }
}
