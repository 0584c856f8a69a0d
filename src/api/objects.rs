//! What `detect` and `segment` share: the objects asked for, and where they were found.

use serde::Serialize;
use utoipa::ToSchema;

use super::error::{ApiError, ErrorCode};
use crate::tasks::located::{LAST_BIN, Located};

/// The most objects in one request.
pub const MAX_OBJECTS: usize = 64;

/// A rectangle of an image, from its upper left corner.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Corners {
    #[schema(example = 96.0)]
    pub x0: f64,
    #[schema(example = 86.5)]
    pub y0: f64,
    #[schema(example = 224.0)]
    pub x1: f64,
    #[schema(example = 214.5)]
    pub y1: f64,
}

/// Where an object was found.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct FoundObject {
    /// As the model names it; empty when it does not.
    #[schema(example = "red circle")]
    pub label: String,
    /// In pixels of the image as a person sees it (after EXIF orientation).
    #[serde(rename = "box")]
    pub pixels: Corners,
    /// The same from 0 to 1.
    pub box_normalized: Corners,
    /// Geometric mean of the probabilities of the tokens of its box and label. Checkpoints give no
    /// other measure of how sure they are.
    #[schema(example = 0.87)]
    pub score: f32,
}

impl FoundObject {
    /// `object` in an image of that width and height in pixels.
    pub fn new(object: &Located, (width, height): (u32, u32)) -> Self {
        let [y0, x0, y1, x1] = object.bins.map(|bin| f64::from(bin) / f64::from(LAST_BIN));
        let (width, height) = (f64::from(width), f64::from(height));
        Self {
            label: object.label.clone(),
            pixels: Corners {
                x0: x0 * width,
                y0: y0 * height,
                x1: x1 * width,
                y1: y1 * height,
            },
            box_normalized: Corners { x0, y0, x1, y1 },
            score: object.score,
        }
    }
}

/// The names of the objects asked for, with single blanks.
///
/// # Errors
/// None or too many, an empty one, one with a semicolon.
pub fn names(objects: Vec<String>) -> Result<Vec<String>, ApiError> {
    if !(1..=MAX_OBJECTS).contains(&objects.len()) {
        let count = format!("a list of {}", objects.len());
        let allowed = format!("1 to {MAX_OBJECTS} objects");
        return Err(ApiError::out_of_range("objects", count, &allowed));
    }
    let named = objects.into_iter().enumerate().map(|(index, object)| {
        let param = format!("objects[{index}]");
        // A newline would end the prompt.
        let name = object.split_whitespace().collect::<Vec<_>>().join(" ");
        if name.is_empty() {
            return Err(ApiError::out_of_range(&param, "empty", "a text"));
        }
        if name.contains(';') {
            let detail = format!(
                "`{param}` holds a `;`, which stands between objects in the prompt; send each object by itself"
            );
            return Err(ApiError::new(ErrorCode::OutOfRange, detail).param(param));
        }
        Ok(name)
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_runs_from_the_first_pixel_to_the_last_whatever_the_aspect_ratio() {
        let object = Located {
            label: "cat".to_owned(),
            bins: [0, 341, 1023, 682],
            codes: None,
            score: 0.5,
        };
        let found = FoundObject::new(&object, (300, 1000));
        let expected = Corners {
            x0: 100.0,
            y0: 0.0,
            x1: 200.0,
            y1: 1000.0,
        };
        assert_eq!(found.pixels, expected);
    }

    #[test]
    fn names_are_trimmed_and_bad_ones_are_refused() {
        let names = |objects: &[&str]| names(objects.iter().map(ToString::to_string).collect());
        assert_eq!(
            names(&[" red\n circle ", "cat"]).unwrap(),
            ["red circle", "cat"]
        );
        for (objects, param) in [
            (&[][..], "objects"),
            (&["cat"; 65], "objects"),
            (&["cat", " "], "objects[1]"),
            (&["cat ; dog"], "objects[0]"),
        ] {
            let error = names(objects).unwrap_err();
            assert_eq!(error.code, ErrorCode::OutOfRange);
            assert_eq!(error.param.as_deref(), Some(param));
        }
    }
}
