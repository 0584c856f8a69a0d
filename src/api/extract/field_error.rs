//! Why a field could not be read, typed: the reason is known where the value is read, and never
//! recognised by the words of a message.

use std::fmt::{self, Display};

use serde::de;

use super::field_names::{field_names, plural_hint};
use crate::api::error::{ApiError, ErrorCode};

/// An error of the deserializers of JSON values and form fields.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldError {
    /// A required field was not sent.
    Missing(&'static str),
    /// A field of a form that may be sent once was sent this many times.
    Repeated(usize),
    /// A wrong type or value: what was found, and what was expected.
    Invalid(String),
}

impl de::Error for FieldError {
    fn custom<T: Display>(reason: T) -> Self {
        Self::Invalid(reason.to_string())
    }

    fn missing_field(name: &'static str) -> Self {
        Self::Missing(name)
    }
}

impl Display for FieldError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(formatter, "`{name}` is required"),
            Self::Repeated(count) => write!(formatter, "sent {count} times, expected once"),
            Self::Invalid(reason) => formatter.write_str(reason),
        }
    }
}

impl std::error::Error for FieldError {}

/// Deserializes `T` and blames the field that fails.
///
/// # Errors
/// [`ErrorCode::MissingField`] and [`ErrorCode::InvalidField`].
pub fn read<'de, T, D>(fields: D) -> Result<T, ApiError>
where
    T: de::DeserializeOwned,
    D: de::Deserializer<'de, Error = FieldError>,
{
    serde_path_to_error::deserialize(fields).map_err(|error| {
        let field = error.path().to_string();
        let reason = error.into_inner();
        if let FieldError::Missing(name) = reason {
            return ApiError::new(ErrorCode::MissingField, reason.to_string()).param(name);
        }
        let hint = match reason {
            FieldError::Repeated(_) => plural_hint(&field, field_names::<T>()),
            _ => String::new(),
        };
        let detail = format!("`{field}`: {reason}{hint}");
        ApiError::new(ErrorCode::InvalidField, detail).param(field)
    })
}
