//! `min_score`: the score below which an object is left out of an answer.

use crate::api::error::ApiError;

/// The least score of an object in an answer; absent, 0: all of them.
///
/// # Errors
/// When it is not from 0 to 1.
pub fn min_score(value: Option<f32>) -> Result<f32, ApiError> {
    match value {
        None => Ok(0.0),
        Some(value) if (0.0..=1.0).contains(&value) => Ok(value),
        Some(value) => Err(ApiError::out_of_range("min_score", value, "0 to 1")),
    }
}
