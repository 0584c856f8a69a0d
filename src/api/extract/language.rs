//! The language that a task is asked in.

use crate::api::error::{ApiError, ErrorCode};
use crate::tasks::{DEFAULT_LANGUAGE, is_language_code};

/// The language asked for, or the default.
///
/// # Errors
/// What has not the form of a language code.
pub fn language(asked: Option<String>) -> Result<String, ApiError> {
    match asked {
        None => Ok(DEFAULT_LANGUAGE.to_owned()),
        Some(code) if is_language_code(&code) => Ok(code),
        Some(other) => {
            let shown: String = other.chars().take(32).collect();
            let detail =
                format!("`language` is `{shown}`; allowed are language codes such as `en`");
            Err(ApiError::new(ErrorCode::OutOfRange, detail).param("language"))
        }
    }
}
