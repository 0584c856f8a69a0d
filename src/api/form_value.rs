//! Text fields of a form, read as whatever type the request's struct asks for.

use serde::de::value::{SeqDeserializer, StringDeserializer};
use serde::de::{self, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde_json::Error;

/// How the complaint begins about a field that was sent more often than it may be.
pub const SENT: &str = "sent ";

/// What a form says for one field: one text, or several when the field was repeated.
///
/// The struct's types decide how a text is read, so `question=42` stays a text and `max_tokens=42`
/// becomes a number.
#[derive(Debug, Clone)]
pub struct FormValue(pub Vec<String>);

impl FormValue {
    fn single(self) -> Result<String, Error> {
        let count = self.0.len();
        let mut texts = self.0.into_iter();
        match (texts.next(), texts.next()) {
            (Some(text), None) => Ok(text),
            _ => Err(Error::custom(format_args!(
                "{SENT}{count} times, expected once"
            ))),
        }
    }

    fn number<T: std::str::FromStr>(self, expected: &str) -> Result<T, Error> {
        let text = self.single()?;
        text.trim().parse().map_err(|_| {
            Error::custom(format_args!("invalid value: `{text}`, expected {expected}"))
        })
    }
}

impl IntoDeserializer<'_, Error> for FormValue {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for FormValue {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.len() > 1 {
            return self.deserialize_seq(visitor);
        }
        visitor.visit_string(self.single()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.single()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.number("`true` or `false`")?)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(self.number("i64")?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(self.number("u64")?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.number("f64")?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(SeqDeserializer::new(self.0.into_iter()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text: StringDeserializer<Error> = self.single()?.into_deserializer();
        de::Deserializer::deserialize_enum(text, name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u128 f32 char bytes byte_buf unit unit_struct newtype_struct
        tuple tuple_struct map struct identifier ignored_any
    }
}
