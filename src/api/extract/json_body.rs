//! A task's request in JSON.

use std::borrow::Cow;

use axum::body::Bytes;
use serde::de::DeserializeOwned;

use super::field_names::{field_names, plural_hint};
use super::fields::Fields;
use super::image_source::ImageSource;
use super::json::{Entries, Json, read_object};
use super::options::Options;
use super::task_fields::{TaskFields, names_keys, too_many_images};
use crate::api::error::{ApiError, ErrorCode};

/// Reads the images, the task's fields and the options; images stay where they are in `body`.
///
/// # Errors
/// JSON that is none, fields that are unknown, missing, repeated or of a wrong type, and more than
/// `max_images` images.
pub fn read_json<T: TaskFields>(
    body: &Bytes,
    max_images: usize,
) -> Result<(Vec<ImageSource>, T, Options), ApiError> {
    read_task(read_entries(body)?, body, max_images)
}

/// The same of an object whose fields were read before; `body` is what they borrow from.
///
/// # Errors
/// As [`read_json`], but for what is no JSON.
pub fn read_task<T: TaskFields, O: DeserializeOwned>(
    mut entries: Entries<'_>,
    body: &Bytes,
    max_images: usize,
) -> Result<(Vec<ImageSource>, T, O), ApiError> {
    refuse_repeated::<T>(&entries)?;
    let mut images = Vec::new();
    for name in T::IMAGE_FIELDS {
        if let Some(place) = entries.iter().position(|(entry, _)| entry == name) {
            let (_, value) = entries.remove(place);
            let sent = match &value {
                Json::List(items) => items.len(),
                _ => 1,
            };
            if images.len() + sent > max_images {
                return Err(too_many_images(name, max_images));
            }
            images.extend(images_of(name, value, body)?);
        }
    }
    let (task, options) = Fields::Json(entries).parse(T::IMAGE_FIELDS)?;
    Ok((images, task, options))
}

/// The fields of a body that is a JSON object.
///
/// # Errors
/// When it is not.
pub fn read_entries(body: &Bytes) -> Result<Entries<'_>, ApiError> {
    read_object(body).map_err(|error| ApiError::new(ErrorCode::InvalidJson, error.to_string()))
}

fn refuse_repeated<T: TaskFields>(entries: &Entries<'_>) -> Result<(), ApiError> {
    for (place, (name, _)) in entries.iter().enumerate() {
        if entries[..place].iter().any(|(earlier, _)| earlier == name) {
            let names = [T::IMAGE_FIELDS, field_names::<T>()].concat();
            let hint = plural_hint(name, &names);
            let detail =
                format!("`{name}` was sent more than once; which one is meant is unclear{hint}");
            return Err(ApiError::new(ErrorCode::RepeatedField, detail).param(name.as_ref()));
        }
    }
    Ok(())
}

fn images_of(name: &str, value: Json<'_>, body: &Bytes) -> Result<Vec<ImageSource>, ApiError> {
    match value {
        Json::Null => Ok(Vec::new()),
        Json::List(items) if name.ends_with('s') => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| image(format!("{name}[{index}]"), item, body))
            .collect(),
        value => Ok(vec![image(name.to_owned(), value, body)?]),
    }
}

fn image(param: String, value: Json<'_>, body: &Bytes) -> Result<ImageSource, ApiError> {
    match value {
        Json::Text(key) if names_keys(&param) => Ok(ImageSource::key(param, key)),
        Json::Text(Cow::Borrowed(text)) => {
            let text = body.slice_ref(text.as_bytes());
            Ok(ImageSource::text(param, text))
        }
        Json::Text(Cow::Owned(text)) => Ok(ImageSource::text(param, text.into())),
        _ => {
            let allowed = match names_keys(&param) {
                true => "the `x-image-key` of an earlier answer",
                false => "base64, a `data:` URL or an https URL",
            };
            let detail = format!("`{param}` has to be a text: {allowed}");
            Err(ApiError::new(ErrorCode::InvalidField, detail).param(param))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::api::extract::task_fields::ONE_IMAGE;

    #[derive(Deserialize)]
    struct Nothing {}

    impl TaskFields for Nothing {
        const IMAGE_FIELDS: &'static [&'static str] = ONE_IMAGE;
    }

    #[test]
    fn an_image_in_base64_is_a_slice_of_the_body() {
        let body = Bytes::from_static(br#"{"image": "iVBORw0KGgo"}"#);
        let (images, _, _) = read_json::<Nothing>(&body, 1).unwrap();
        let text = images[0].sent_text().unwrap();
        assert_eq!(text, "iVBORw0KGgo");
        assert!(body.as_ptr_range().contains(&text.as_ptr()));
    }
}
