//! Fields with a singular and a plural name, such as `question` and `questions`.

use super::field_names::plural;
use crate::api::error::{ApiError, ErrorCode};

/// The most values in one request.
pub const MOST: usize = 64;

/// The values sent under either name, each with the name of its field; none when neither was sent.
///
/// # Errors
/// Both names at once; no value or too many in the plural.
pub fn one_or_many<T>(
    singular: &str,
    one: Option<T>,
    many: Option<Vec<T>>,
) -> Result<Vec<(String, T)>, ApiError> {
    let plural = plural(singular);
    let values = match (one, many) {
        (None, None) => return Ok(Vec::new()),
        (Some(value), None) => vec![(singular.to_owned(), value)],
        (None, Some(values)) => {
            let values = values.into_iter().enumerate();
            values
                .map(|(index, value)| (format!("{plural}[{index}]"), value))
                .collect()
        }
        (Some(_), Some(_)) => {
            let detail = format!("`{singular}` and `{plural}` were both sent; send one of them");
            return Err(ApiError::new(ErrorCode::RepeatedField, detail).param(plural));
        }
    };
    if !(1..=MOST).contains(&values.len()) {
        let count = format!("a list of {}", values.len());
        return Err(ApiError::out_of_range(
            &plural,
            count,
            &format!("1 to {MOST} of them"),
        ));
    }
    Ok(values)
}

/// The texts sent under either name: at least one, and none of them empty.
///
/// # Errors
/// As [`one_or_many`]; none at all; an empty one.
pub fn texts(
    singular: &str,
    one: Option<String>,
    many: Option<Vec<String>>,
) -> Result<Vec<(String, String)>, ApiError> {
    let texts = one_or_many(singular, one, many)?;
    if texts.is_empty() {
        let plural = plural(singular);
        let detail = format!("`{singular}` is required, or a list in `{plural}`");
        return Err(ApiError::new(ErrorCode::MissingField, detail).param(singular));
    }
    match texts.iter().find(|(_, text)| text.trim().is_empty()) {
        Some((param, _)) => Err(ApiError::out_of_range(param, "empty", "a text")),
        None => Ok(texts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Option<Vec<String>> {
        Some(texts.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn texts_keep_their_order_and_know_their_field() {
        let asked = texts("question", None, list(&["a?", "b?"])).unwrap();
        let expected = [("questions[0]", "a?"), ("questions[1]", "b?")];
        assert_eq!(
            asked,
            expected.map(|(param, text)| (param.into(), text.into()))
        );
    }

    #[test]
    fn missing_empty_and_ambiguous_texts_are_refused() {
        for (one, many, code, param) in [
            (None, None, ErrorCode::MissingField, "question"),
            (
                Some("a?"),
                list(&["b?"]),
                ErrorCode::RepeatedField,
                "questions",
            ),
            (Some(" \n"), None, ErrorCode::OutOfRange, "question"),
            (
                None,
                list(&["a?", ""]),
                ErrorCode::OutOfRange,
                "questions[1]",
            ),
            (None, list(&[]), ErrorCode::OutOfRange, "questions"),
            (None, list(&["?"; 65]), ErrorCode::OutOfRange, "questions"),
        ] {
            let error = texts("question", one.map(str::to_owned), many).unwrap_err();
            assert_eq!((error.code, error.param.as_deref()), (code, Some(param)));
        }
    }

    #[test]
    fn the_field_may_be_left_out() {
        assert_eq!(one_or_many::<u8>("box", None, None).unwrap(), []);
        let error = one_or_many("box", Some(1), Some(vec![2])).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("boxes"));
    }
}
