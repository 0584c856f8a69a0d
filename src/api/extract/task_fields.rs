//! What a task's own fields are, whatever kind of body they come in.

use serde::de::DeserializeOwned;

use crate::api::error::{ApiError, ErrorCode};
use crate::settings::Settings;

/// The fields that belong to one task alone.
pub trait TaskFields: DeserializeOwned {
    /// The names of the fields that carry images.
    const IMAGE_FIELDS: &'static [&'static str];

    /// The most images that a request of this task may have.
    fn max_images(settings: &Settings) -> usize {
        match Self::IMAGE_FIELDS.contains(&"images") {
            true => settings.max_images,
            false => 1,
        }
    }
}

/// One image in `image`, or one that was sent before in `image_key`.
pub const ONE_IMAGE: &[&str] = &["image", "image_key"];
/// One image in `image` or `image_key`, or lists in `images` or `image_keys`.
pub const SEVERAL_IMAGES: &[&str] = &["image", "images", "image_key", "image_keys"];

/// Whether a field that carries images names those that were sent before.
pub fn names_keys(field: &str) -> bool {
    field.starts_with("image_key")
}

/// The refusal of more than `most` images.
pub fn too_many_images(param: &str, most: usize) -> ApiError {
    let detail = format!("this route takes at most {most} in one request, and more were sent");
    ApiError::new(ErrorCode::TooManyImages, detail).param(param)
}
