//! A JSON body, read in order and within bounds. Texts are borrowed from it, so a large image in
//! base64 is not copied.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, Error as _, Visitor};
use serde_json::Number;

/// No request has as many; it bounds what a hostile one costs.
const MAX_FIELDS: usize = 64;

/// Values in one body, items of lists among them: twice the most images that an operator can allow.
/// Without a bound, a list of empty texts takes many times its own size in memory.
const MAX_VALUES: usize = 20_000;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    /// Borrowed unless it has escapes.
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Entries<'a>),
}

/// The names and values of an object in their order, repeated names included.
pub type Entries<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

/// Reads a body that is an object.
///
/// # Errors
/// When it is not, and when it has too many fields or values.
pub fn read_object(body: &[u8]) -> serde_json::Result<Entries<'_>> {
    let object: Object<'_> = serde_json::from_slice(body)?;
    Ok(object.0)
}

struct Object<'a>(Entries<'a>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Object<'de>, A::Error> {
                entries(map, &mut { MAX_VALUES }, MAX_FIELDS).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

fn entries<'de, A: de::MapAccess<'de>>(
    mut map: A,
    values_left: &mut usize,
    most: usize,
) -> Result<Entries<'de>, A::Error> {
    let mut entries = Vec::new();
    while let Some(Text(name)) = map.next_key()? {
        if entries.len() == most {
            return Err(A::Error::custom(format_args!("more than {most} fields")));
        }
        entries.push((name, map.next_value_seed(Counted(values_left))?));
    }
    Ok(entries)
}

/// A text, borrowed if possible; serde's own `Cow` is always owned.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads any value, and subtracts it and all values in it from those that are left.
struct Counted<'a>(&'a mut usize);

impl<'de> DeserializeSeed<'de> for Counted<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        let limit = || D::Error::custom(format_args!("more than {MAX_VALUES} values"));
        *self.0 = self.0.checked_sub(1).ok_or_else(limit)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counted<'_> {
    type Value = Json<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        // JSON has no infinite numbers, so this one is a number.
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(text.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(text.to_owned().into()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut sequence: A) -> Result<Json<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(Counted(self.0))? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Json<'de>, A::Error> {
        entries(map, self.0, usize::MAX).map(Json::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> serde_json::Result<Entries<'_>> {
        read_object(text.as_bytes())
    }

    #[test]
    fn values_and_fields_keep_their_order_and_their_kind() {
        let text =
            r#"{"b": [null, true, -1, 1.5, "t\n", {"x": []}], "a": 18446744073709551615, "b": 2}"#;
        let list = vec![
            Json::Null,
            Json::Bool(true),
            Json::Number((-1).into()),
            Json::Number(Number::from_f64(1.5).unwrap()),
            Json::Text("t\n".into()),
            Json::Object(vec![("x".into(), Json::List(vec![]))]),
        ];
        let expected = [
            ("b".into(), Json::List(list)),
            ("a".into(), Json::Number(u64::MAX.into())),
            ("b".into(), Json::Number(2.into())),
        ];
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn a_text_without_escapes_is_borrowed() {
        let entries = read(r#"{"image": "iVBORw0KGgo", "other": "a\/b"}"#).unwrap();
        assert!(matches!(
            entries[0].1,
            Json::Text(Cow::Borrowed("iVBORw0KGgo"))
        ));
        assert_eq!(entries[1].1, Json::Text("a/b".into()));
    }

    #[test]
    fn values_are_counted_wherever_they_are() {
        let items = |count: usize| vec!["0"; count].join(",");
        // The list is a value as well.
        assert!(read(&format!("{{\"a\": [{}]}}", items(MAX_VALUES - 1))).is_ok());
        for body in [
            format!("{{\"a\": [{}]}}", items(MAX_VALUES)),
            format!("{{\"a\": [{}], \"b\": 1}}", items(MAX_VALUES - 1)),
            format!("{{\"a\": [[{}],{{\"b\": 1}}]}}", items(MAX_VALUES - 3)),
        ] {
            let error = read(&body).unwrap_err().to_string();
            assert!(error.starts_with("more than 20000 values"), "{error}");
        }
    }

    #[test]
    fn fields_are_counted() {
        let fields = |count: usize| {
            let fields: Vec<_> = (0..count).map(|n| format!("\"{n}\":0")).collect();
            format!("{{{}}}", fields.join(","))
        };
        assert!(read(&fields(MAX_FIELDS)).is_ok());
        assert!(read(&fields(MAX_FIELDS + 1)).is_err());
    }
}
