//! A part of an image, as a request names it.

use serde::Deserialize;
use utoipa::ToSchema;

use super::error::{ApiError, ErrorCode};
use crate::tasks::objects::Corners;

/// A part of the image, in pixels as a person sees it (after EXIF orientation).
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected an object of x0, y0, x1 and y1, or a text such as `96,86.5,224,214.5`"
)]
pub enum Region {
    Corners(Corners),
    /// x0, y0, x1 and y1: what a form has.
    #[schema(example = "96,86.5,224,214.5")]
    Text(String),
}

impl Region {
    /// Its corners; `param` is the field that it was sent in.
    ///
    /// # Errors
    /// A text that is not four numbers.
    pub fn corners(self, param: &str) -> Result<Corners, ApiError> {
        match self {
            Self::Corners(corners) => Ok(corners),
            Self::Text(text) => read(&text).ok_or_else(|| {
                let shown: String = text.chars().take(64).collect();
                let detail = format!(
                    "`{param}` is `{shown}`; write four numbers such as `96,86.5,224,214.5`: x0, y0, x1 and y1"
                );
                ApiError::new(ErrorCode::InvalidField, detail).param(param)
            }),
        }
    }
}

fn read(text: &str) -> Option<Corners> {
    let numbers: Result<Vec<f64>, _> = text
        .split(',')
        .map(|number| number.trim().parse())
        .collect();
    match numbers.ok()?[..] {
        [x0, y0, x1, y1] => Some(Corners { x0, y0, x1, y1 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn corners(sent: Value) -> Result<Corners, ApiError> {
        let region: Region = serde_json::from_value(sent).unwrap();
        region.corners("boxes[1]")
    }

    #[test]
    fn an_object_and_a_text_say_the_same() {
        let object = corners(json!({"x0": 1, "y0": 2.5, "x1": 30, "y1": 40})).unwrap();
        assert_eq!(corners(json!("1, 2.5, 30, 40")).unwrap(), object);
    }

    #[test]
    fn what_is_not_four_numbers_is_told_what_to_write() {
        for text in ["1,2,3", "1,2,3,4,5", "a,b,c,d", ""] {
            let error = corners(json!(text)).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("boxes[1]"));
            let words = format!("`{text}`; write four numbers");
            assert!(error.detail.contains(&words), "{error}");
        }
    }
}
