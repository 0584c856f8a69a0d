//! Text fields of a form, read as whatever type the request's struct asks for.

use serde::de::value::{SeqDeserializer, StringDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Visitor};

use super::field_error::FieldError;

/// What a form holds for one field: one text, or several if the field was repeated.
///
/// The struct's types decide how a text is read, so `question=42` stays a text and `max_tokens=42`
/// becomes a number.
#[derive(Debug, Clone)]
pub struct FormValue(pub Vec<String>);

impl FormValue {
    fn single(self) -> Result<String, FieldError> {
        let count = self.0.len();
        let mut texts = self.0.into_iter();
        match (texts.next(), texts.next()) {
            (Some(text), None) => Ok(text),
            _ => Err(FieldError::Repeated(count)),
        }
    }

    fn parsed<T: std::str::FromStr>(self, expected: &str) -> Result<T, FieldError> {
        let text = self.single()?;
        text.trim().parse().map_err(|_| {
            FieldError::custom(format_args!("invalid value: `{text}`, expected {expected}"))
        })
    }
}

impl IntoDeserializer<'_, FieldError> for FormValue {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for FormValue {
    type Error = FieldError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        if self.0.len() > 1 {
            return self.deserialize_seq(visitor);
        }
        visitor.visit_string(self.single()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_string(self.single()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_bool(self.parsed("`true` or `false`")?)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_i64(self.parsed("a whole number")?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_u64(self.parsed("a whole number that is not negative")?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_f32(self.parsed("a number")?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_f64(self.parsed("a number")?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_seq(SeqDeserializer::new(self.0.into_iter()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        let text = StringDeserializer::<FieldError>::new(self.single()?);
        text.deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u128 char bytes byte_buf unit unit_struct newtype_struct
        tuple tuple_struct map struct identifier ignored_any
    }
}
