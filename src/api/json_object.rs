//! A JSON body: an object, read in order and within bounds.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, Error as _, Visitor};
use serde_json::{Map, Value};

/// No request has as many; it bounds what a hostile one costs.
const MAX_FIELDS: usize = 64;

/// Values in one body, items of lists among them. Twice as many as the most images that an operator
/// can allow; without a bound, a list of empty texts takes many times its own size in memory.
const MAX_VALUES: usize = 20_000;

/// A JSON object that keeps its order and what was sent twice; serde_json's own map forgets both.
#[derive(Debug)]
pub struct JsonObject(pub Vec<(String, Value)>);

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = JsonObject;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<JsonObject, A::Error> {
                let mut entries = Vec::new();
                let mut left = MAX_VALUES;
                while let Some(name) = map.next_key()? {
                    if entries.len() == MAX_FIELDS {
                        let limit = format_args!("more than {MAX_FIELDS} fields");
                        return Err(A::Error::custom(limit));
                    }
                    entries.push((name, map.next_value_seed(Counted(&mut left))?));
                }
                Ok(JsonObject(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// Reads any value, and takes it and all values in it off what is left.
struct Counted<'a>(&'a mut usize);

impl<'de> DeserializeSeed<'de> for Counted<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let limit = || D::Error::custom(format_args!("more than {MAX_VALUES} values"));
        *self.0 = self.0.checked_sub(1).ok_or_else(limit)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counted<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(Counted(self.0))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Map::new();
        while let Some(name) = map.next_key()? {
            entries.insert(name, map.next_value_seed(Counted(self.0))?);
        }
        Ok(Value::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<JsonObject, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn values_are_those_that_serde_json_reads_and_fields_keep_their_order() {
        let text = r#"{"b": [null, true, -1, 1, 1.5, "t\n", {"x": []}], "a": 18446744073709551615, "b": 2}"#;
        let expected = [
            ("b", json!([null, true, -1, 1, 1.5, "t\n", {"x": []}])),
            ("a", json!(u64::MAX)),
            ("b", json!(2)),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(read(text).unwrap().0, expected);
    }

    #[test]
    fn values_are_counted_wherever_they_stand() {
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
