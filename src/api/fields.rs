//! A request's fields, from either kind of body, checked and typed in one place.

use serde::de::value::MapDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde_json::Value;

use super::error::{ApiError, ErrorCode};
use super::form_value::{FormValue, SENT};

/// A request's fields in the order in which they were sent, images taken out.
#[derive(Debug)]
pub enum Fields {
    Json(Vec<(String, Value)>),
    Form(Vec<(String, FormValue)>),
}

impl Fields {
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

fn parse<T, O, V>(entries: Vec<(String, V)>, also: &[&str]) -> Result<(T, O), ApiError>
where
    T: DeserializeOwned,
    O: DeserializeOwned,
    V: for<'de> IntoDeserializer<'de, serde_json::Error>,
{
    let (names, common_names) = (field_names::<T>(), field_names::<O>());
    let (mut task, mut common, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in entries {
        if names.contains(&name.as_str()) {
            task.push((name, value));
        } else if common_names.contains(&name.as_str()) {
            common.push((name, value));
        } else {
            unknown.push(name);
        }
    }
    if !unknown.is_empty() {
        let allowed = [also, names, common_names].concat();
        return Err(unknown_fields(&unknown, &allowed));
    }
    Ok((read(task)?, read(common)?))
}

fn read<T, V>(entries: Vec<(String, V)>) -> Result<T, ApiError>
where
    T: DeserializeOwned,
    V: for<'de> IntoDeserializer<'de, serde_json::Error>,
{
    let map: MapDeserializer<'_, _, serde_json::Error> = MapDeserializer::new(entries.into_iter());
    serde_path_to_error::deserialize(map).map_err(|error| {
        let field = error.path().to_string();
        let reason = in_plain_words(&error.into_inner().to_string());
        // A missing field has no place of its own: serde's words name it.
        match reason.strip_prefix("missing field `") {
            Some(name) => {
                let name = name.trim_end_matches('`');
                ApiError::new(ErrorCode::MissingField, format!("`{name}` is required")).param(name)
            }
            None => {
                let hint = match reason.starts_with(SENT) {
                    true => plural_hint(&field, field_names::<T>()),
                    false => String::new(),
                };
                let detail = format!("`{field}`: {reason}{hint}");
                ApiError::new(ErrorCode::InvalidField, detail).param(field)
            }
        }
    })
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

/// Serde names Rust's types; a client knows JSON's.
fn in_plain_words(reason: &str) -> String {
    reason
        .replace("expected i64", "expected a whole number")
        .replace(
            "expected u64",
            "expected a whole number that is not negative",
        )
        .replace("expected f64", "expected a number")
        .replace("expected a boolean", "expected `true` or `false`")
        .replace("expected a sequence", "expected a list")
}

/// The names of a struct's fields, as its `Deserialize` tells them to a deserializer.
pub fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // Always an error: the probe has no values to offer.
    let _ = T::deserialize(NameProbe(&mut names));
    names
}

struct NameProbe<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for NameProbe<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("only a struct has field names"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Where several of what `field` takes one of can be sent, if there is such a field among `names`.
pub fn plural_hint(field: &str, names: &[&str]) -> String {
    let plural = plural(field);
    match names.contains(&plural.as_str()) {
        true => format!("; for several, use `{plural}`"),
        false => String::new(),
    }
}

/// The name of the field that takes several of what `singular` takes one of.
pub fn plural(singular: &str) -> String {
    match singular.ends_with('x') {
        true => format!("{singular}es"),
        false => format!("{singular}s"),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::json_object::JsonObject;
    use super::*;

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
        let object: JsonObject = serde_json::from_str(text).unwrap();
        Fields::Json(object.0).parse(&["image"])
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
