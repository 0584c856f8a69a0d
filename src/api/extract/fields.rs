//! A request's fields, from either kind of body, checked and typed in one place.

use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};

use super::field_error::{FieldError, read};
use super::field_names::field_names;
use super::form_value::FormValue;
use super::json::Entries;
use crate::api::error::{ApiError, ErrorCode};

/// A request's fields in the order in which they were sent, images taken out.
#[derive(Debug)]
pub enum Fields<'a> {
    Json(Entries<'a>),
    Form(Vec<(String, FormValue)>),
}

impl Fields<'_> {
    /// Reads the fields of `T` and of `O`; `also` are names of fields that were read before.
    ///
    /// # Errors
    /// Fields that neither knows (all of them at once), missing ones, wrong types.
    pub fn parse<T, O>(self, also: &[&str]) -> Result<(T, O), ApiError>
    where
        T: DeserializeOwned,
        O: DeserializeOwned,
    {
        match self {
            Fields::Json(entries) => parse(entries, also),
            Fields::Form(entries) => parse(entries, also),
        }
    }
}

fn parse<'de, T, O, N, V>(entries: Vec<(N, V)>, also: &[&str]) -> Result<(T, O), ApiError>
where
    T: DeserializeOwned,
    O: DeserializeOwned,
    N: AsRef<str> + IntoDeserializer<'de, FieldError>,
    V: IntoDeserializer<'de, FieldError>,
{
    let (names, common_names) = (field_names::<T>(), field_names::<O>());
    let (mut task, mut common, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in entries {
        if names.contains(&name.as_ref()) {
            task.push((name, value));
        } else if common_names.contains(&name.as_ref()) {
            common.push((name, value));
        } else {
            unknown.push(name.as_ref().to_owned());
        }
    }
    if !unknown.is_empty() {
        let allowed = [also, names, common_names].concat();
        return Err(unknown_fields(&unknown, &allowed));
    }
    let read_all = |entries: Vec<(N, V)>| MapDeserializer::new(entries.into_iter());
    Ok((read(read_all(task))?, read(read_all(common))?))
}

fn unknown_fields(unknown: &[String], allowed: &[&str]) -> ApiError {
    let listed = |names: &[String]| names.join("`, `");
    let noun = if unknown.len() == 1 {
        "field"
    } else {
        "fields"
    };
    let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    ApiError::new(
        ErrorCode::UnknownField,
        format!(
            "unknown {noun} `{}`; allowed are `{}`",
            listed(unknown),
            listed(&allowed)
        ),
    )
    .param(unknown[0].clone())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::api::extract::json::read_object;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Task {
        question: String,
        tags: Option<Vec<String>>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Common {
        count: Option<i64>,
        exact: Option<bool>,
    }

    fn json(text: &str) -> Result<(Task, Common), ApiError> {
        Fields::Json(read_object(text.as_bytes()).unwrap()).parse(&["image"])
    }

    fn form(entries: &[(&str, &[&str])]) -> Result<(Task, Common), ApiError> {
        let entries = entries.iter().map(|(name, texts)| {
            let texts = texts.iter().map(ToString::to_string).collect();
            (name.to_string(), FormValue(texts))
        });
        Fields::Form(entries.collect()).parse(&["image"])
    }

    #[test]
    fn json_and_form_give_the_same_struct() {
        let from_json =
            json(r#"{"question": "42", "count": 7, "exact": true, "tags": ["a", "b"]}"#);
        let from_form = form(&[
            ("question", &["42"]),
            ("count", &["7"]),
            ("exact", &["true"]),
            ("tags", &["a", "b"]),
        ]);
        let expected = Task {
            question: "42".into(),
            tags: Some(vec!["a".into(), "b".into()]),
        };
        let (task, common) = from_json.unwrap();
        assert_eq!((&task, common.count), (&expected, Some(7)));
        assert_eq!(from_form.unwrap(), (task, common));
    }

    #[test]
    fn all_unknown_fields_are_named_together_with_what_is_allowed() {
        let error = json(r#"{"question": "?", "colour": 1, "size": 2}"#).unwrap_err();
        assert_eq!(error.code, ErrorCode::UnknownField);
        assert_eq!(
            error.detail,
            "unknown fields `colour`, `size`; allowed are \
             `image`, `question`, `tags`, `count`, `exact`"
        );
    }

    #[test]
    fn a_wrong_type_names_the_field_and_what_was_expected() {
        let error = json(r#"{"question": "?", "count": "seven"}"#).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidField);
        assert_eq!(error.param.as_deref(), Some("count"));
        assert!(error.detail.ends_with("expected a whole number"), "{error}");

        let error = json(r#"{"question": "?", "tags": ["a", 3]}"#).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("tags[1]"));

        let error = form(&[("question", &["?"]), ("count", &["seven"])]).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("count"));
        assert!(error.detail.contains("`seven`"), "{error}");
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = json("{}").unwrap_err();
        assert_eq!(error.code, ErrorCode::MissingField);
        assert_eq!(error.param.as_deref(), Some("question"));
    }

    #[test]
    fn a_single_field_sent_twice_in_a_form_is_refused() {
        let error = form(&[("question", &["a", "b"])]).unwrap_err();
        assert_eq!(error.detail, "`question`: sent 2 times, expected once");
    }
}
