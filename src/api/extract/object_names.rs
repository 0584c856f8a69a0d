//! The objects that `detect` and `segment` are asked for.

use utoipa::ToSchema;

use crate::api::error::{ApiError, ErrorCode};
use crate::tasks::detection;

/// The most objects in one request.
pub const MAX_OBJECTS: usize = 64;

/// What to look for, on one line; a `;` stands between objects in the prompt, so none may be in it.
#[derive(ToSchema)]
#[schema(pattern = r"^[^;]*[^;\s][^;]*$")]
#[expect(dead_code, reason = "it only describes")]
pub struct ObjectName(String);

/// The names of the objects asked for, with single spaces.
///
/// # Errors
/// None or too many, an empty one, one with a semicolon.
pub fn names(objects: Vec<String>) -> Result<Vec<String>, ApiError> {
    if !(1..=MAX_OBJECTS).contains(&objects.len()) {
        let count = format!("a list of {}", objects.len());
        let allowed = format!("1 to {MAX_OBJECTS} objects");
        return Err(ApiError::out_of_range("objects", count, &allowed));
    }
    let named = objects.into_iter().enumerate().map(|(index, object)| {
        let param = format!("objects[{index}]");
        detection::name(&object).map_err(|reason| {
            let detail = format!("`{param}` {reason}");
            ApiError::new(ErrorCode::OutOfRange, detail).param(param)
        })
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_malformed_ones_refused() {
        let names = |objects: &[&str]| names(objects.iter().map(ToString::to_string).collect());
        assert_eq!(
            names(&[" red\n circle ", "cat"]).unwrap(),
            ["red circle", "cat"]
        );
        for (objects, param) in [
            (&[][..], "objects"),
            (&["cat"; 65], "objects"),
            (&["cat", " "], "objects[1]"),
            (&["cat ; dog"], "objects[0]"),
        ] {
            let error = names(objects).unwrap_err();
            assert_eq!(error.code, ErrorCode::OutOfRange);
            assert_eq!(error.param.as_deref(), Some(param));
        }
    }
}
