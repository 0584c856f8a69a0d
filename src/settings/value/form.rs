//! The forms in which a value is given: text, a number, a list, a table.

use std::fmt;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Unexpected, Visitor};

/// Reads one value, given as text or as a number, with `parse`. `allowed` ends the error message
/// "… is invalid; allowed is …".
pub(super) fn scalar<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    allowed: &dyn fmt::Display,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    struct Scalar<'a, P>(&'a dyn fmt::Display, P);

    impl<T, P: FnOnce(&str) -> Option<T>> Visitor<'_> for Scalar<'_, P> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            let Self(allowed, parse) = self;
            parse(text.trim())
                .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &&*allowed.to_string()))
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
            let Self(allowed, parse) = self;
            parse(&value.to_string())
                .ok_or_else(|| E::invalid_value(Unexpected::Bool(value), &&*allowed.to_string()))
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
            let Self(allowed, parse) = self;
            parse(&number.to_string())
                .ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &&*allowed.to_string()))
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
            let Self(allowed, parse) = self;
            parse(&number.to_string()).ok_or_else(|| {
                E::invalid_value(Unexpected::Unsigned(number), &&*allowed.to_string())
            })
        }
    }

    deserializer.deserialize_any(Scalar(allowed, parse))
}

/// Reads a list, given as a TOML array or as text with commas, and parses its items with `parse`.
pub(super) fn list<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    allowed: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_any(List(allowed, parse, Tables::Refused))
}

/// Reads the same, or a table `key = "value"`, which stands for the list of `key=value`.
pub(super) fn list_or_table<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    allowed: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_any(List(allowed, parse, Tables::Taken))
}

/// Whether a table `key = "value"` stands for the list of `key=value`.
#[derive(PartialEq, Eq)]
enum Tables {
    Taken,
    Refused,
}

/// A list, whose items are what the text says and how they are read.
struct List<P>(&'static str, P, Tables);

impl<T, P: Fn(&str) -> Option<T>> List<P> {
    fn item<E: de::Error>(&self, text: &str) -> Result<T, E> {
        (self.1)(text.trim()).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self.0))
    }
}

impl<'de, T, P: Fn(&str) -> Option<T>> Visitor<'de> for List<P> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of text, each {}", self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        text.split(',').map(|item| self.item(item)).collect()
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Vec<T>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        if self.2 == Tables::Refused {
            return Err(de::Error::invalid_type(Unexpected::Map, &self));
        }
        let mut list = Vec::new();
        while let Some((key, value)) = items.next_entry::<String, String>()? {
            list.push(self.item(&format!("{key}={value}"))?);
        }
        Ok(list)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<String>()? {
            list.push(self.item(&item)?);
        }
        Ok(list)
    }
}
