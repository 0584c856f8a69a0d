//! One file per route.

pub mod caption;
pub mod detect;
pub mod docs;
pub mod document;
pub mod generate;
pub mod health;
pub mod metrics;
pub mod models;
pub mod ocr;
pub mod playground;
pub mod question;
pub mod segment;
mod text_task;
pub mod vqa;

use super::respond::error::{ApiError, ErrorCode};
use crate::tasks::{DEFAULT_LANGUAGE, is_language_code};

/// The language asked for, or the default.
fn language(asked: Option<String>) -> Result<String, ApiError> {
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
