//! A part of an image, as a request names it.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use utoipa::ToSchema;

use crate::tasks::bounding_box::BoundingBox;

const EXPECTED: &str = "an object of x0, y0, x1 and y1, or a text such as `96,86.5,224,214.5`";

/// A part of the image, in pixels as a person sees it (after EXIF orientation).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region(pub BoundingBox);

/// [`Region`], for the contract: a part of the image, in pixels as a person sees it (after EXIF
/// orientation).
#[derive(ToSchema)]
#[schema(as = Region)]
#[serde(untagged)]
#[expect(dead_code, reason = "it only describes")]
pub enum RegionSchema {
    BoundingBox(BoundingBox),
    /// x0, y0, x1 and y1, or the object as JSON.
    #[schema(example = "96,86.5,224,214.5")]
    Text(String),
}

impl<'de> Deserialize<'de> for Region {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let sent = Value::deserialize(deserializer)?;
        let read = match &sent {
            Value::Object(_) => corners(&sent),
            Value::String(text) if text.trim_start().starts_with('{') => serde_json::from_str(text)
                .map_err(|error| error.to_string())
                .and_then(|value| corners(&value)),
            Value::String(text) => numbers(text),
            Value::Array(_) => Err("a list; several boxes are sent as `boxes`".to_owned()),
            _ => Err("something else".to_owned()),
        };
        let error = |reason| D::Error::custom(format_args!("{reason}; expected {EXPECTED}"));
        read.map(Self).map_err(error)
    }
}

fn corners(object: &Value) -> Result<BoundingBox, String> {
    const NAMES: [&str; 4] = ["x0", "y0", "x1", "y1"];
    let mut fields = object.as_object().into_iter().flatten();
    if let Some((unknown, _)) = fields.find(|(name, _)| !NAMES.contains(&name.as_str())) {
        return Err(format!("unknown field `{unknown}`"));
    }
    match NAMES.into_iter().find(|name| object.get(name).is_none()) {
        Some(missing) => Err(format!("`{missing}` is missing")),
        None => BoundingBox::deserialize(object).map_err(|error| error.to_string()),
    }
}

fn numbers(text: &str) -> Result<BoundingBox, String> {
    let numbers: Result<Vec<f64>, _> = text
        .split(',')
        .map(|number| number.trim().parse())
        .collect();
    match numbers.as_deref() {
        Ok(&[x0, y0, x1, y1]) => Ok(BoundingBox { x0, y0, x1, y1 }),
        _ => {
            let shown: String = text.chars().take(64).collect();
            Err(format!("`{shown}` is not four numbers"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_and_a_text_give_the_same_region() {
        let expected = Region(BoundingBox {
            x0: 1.0,
            y0: 2.5,
            x1: 30.0,
            y1: 40.0,
        });
        for sent in [
            json!({"x0": 1, "y0": 2.5, "x1": 30, "y1": 40}),
            json!(r#"{"x0": 1, "y0": 2.5, "x1": 30, "y1": 40}"#),
            json!("1, 2.5, 30, 40"),
        ] {
            assert_eq!(Region::deserialize(sent).unwrap(), expected);
        }
    }

    #[test]
    fn other_values_are_refused_with_what_to_write() {
        for (sent, words) in [
            (json!("1,2,3"), "`1,2,3` is not four numbers"),
            (json!("a,b,c,d"), "is not four numbers"),
            (json!(""), "is not four numbers"),
            (json!([1, 2, 3, 4]), "a list; several boxes"),
            (json!(7), "something else"),
            (json!({"x0": 1}), "`y0` is missing"),
            (json!({"x0": 1, "width": 7}), "unknown field `width`"),
            (json!("{\"x0\": }"), "expected value"),
        ] {
            let error = Region::deserialize(sent).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(EXPECTED), "{error}");
        }
    }
}
