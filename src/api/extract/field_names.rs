//! Names of fields.

use serde::de::{self, DeserializeOwned, Deserializer, Error as _, Visitor};

/// The names of a struct's fields, as its `Deserialize` passes them to a deserializer.
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

/// A hint at the plural of `field`, if it is among `names`.
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
