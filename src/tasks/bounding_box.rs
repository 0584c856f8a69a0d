//! Boxes of objects, in pixels of the image.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::detection::{Detection, LAST_BIN};

/// A rectangle of an image, from its upper left corner.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Corners)]
pub struct BoundingBox {
    #[schema(example = 96.0)]
    pub x0: f64,
    #[schema(example = 86.5)]
    pub y0: f64,
    #[schema(example = 224.0)]
    pub x1: f64,
    #[schema(example = 214.5)]
    pub y1: f64,
}

impl BoundingBox {
    /// The nearest bins of the upper, left, lower and right edge in an image of that width and height
    /// in pixels; `None` if the box is empty or not inside the image.
    pub fn bins(&self, (width, height): (u32, u32)) -> Option<[u16; 4]> {
        let (width, height) = (f64::from(width), f64::from(height));
        let inside = |low: f64, high: f64, end: f64| 0.0 <= low && low < high && high <= end;
        if !inside(self.x0, self.x1, width) || !inside(self.y0, self.y1, height) {
            return None;
        }
        let bin = |edge: f64, end: f64| (edge / end * f64::from(LAST_BIN)).round() as u16;
        Some([
            bin(self.y0, height),
            bin(self.x0, width),
            bin(self.y1, height),
            bin(self.x1, width),
        ])
    }
}

/// Where an object was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = FoundObject)]
pub struct DetectedObject {
    /// As the model names it; empty when it does not.
    #[schema(example = "red circle")]
    pub label: String,
    /// In pixels of the image as a person sees it (after EXIF orientation).
    #[serde(rename = "box")]
    pub pixels: BoundingBox,
    /// The same from 0 to 1.
    pub box_normalized: BoundingBox,
    /// How sure the model is, from 0 to 1: the geometric mean of the probabilities of its four edges,
    /// each to within 2 % of the image, times that of the tokens of its label.
    #[schema(example = 0.87)]
    pub score: f32,
    /// Mean log-probability of the tokens of its box and label, as the model gave them.
    #[schema(example = -1.13)]
    #[serde(default)]
    pub logprob: f32,
}

impl DetectedObject {
    /// `object` in an image of that width and height in pixels.
    pub fn new(object: &Detection, (width, height): (u32, u32)) -> Self {
        let [y0, x0, y1, x1] = edges(object);
        let (width, height) = (f64::from(width), f64::from(height));
        Self {
            label: object.label.clone(),
            pixels: BoundingBox {
                x0: x0 * width,
                y0: y0 * height,
                x1: x1 * width,
                y1: y1 * height,
            },
            box_normalized: BoundingBox { x0, y0, x1, y1 },
            score: object.score,
            logprob: object.logprob,
        }
    }
}

/// Upper, left, lower and right edge of an object's box, from 0 to 1.
pub fn edges(object: &Detection) -> [f64; 4] {
    object.bins.map(|bin| f64::from(bin) / f64::from(LAST_BIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_box_spans_the_picture_at_any_aspect_ratio() {
        let object = Detection {
            label: "cat".to_owned(),
            bins: [0, 341, 1023, 682],
            codes: None,
            score: 0.5,
            logprob: 0.0,
        };
        let found = DetectedObject::new(&object, (300, 1000));
        let expected = BoundingBox {
            x0: 100.0,
            y0: 0.0,
            x1: 200.0,
            y1: 1000.0,
        };
        assert_eq!(found.pixels, expected);
        assert_eq!(found.pixels.bins((300, 1000)), Some(object.bins));
    }

    #[test]
    fn only_boxes_inside_the_image_have_bins() {
        let corners = |x0, y0, x1, y1| BoundingBox { x0, y0, x1, y1 };
        let size = (300, 1000);
        assert_eq!(
            corners(0.0, 0.0, 300.0, 1000.0).bins(size),
            Some([0, 0, 1023, 1023])
        );
        for outside in [
            corners(-0.1, 0.0, 300.0, 1000.0),
            corners(0.0, 0.0, 300.1, 1000.0),
            corners(0.0, 0.0, 300.0, 1001.0),
            corners(200.0, 0.0, 200.0, 1000.0),
            corners(0.0, 9.0, 300.0, 8.0),
            corners(f64::NAN, 0.0, 300.0, 1000.0),
            corners(0.0, 0.0, 300.0, f64::INFINITY),
        ] {
            assert_eq!(outside.bins(size), None, "{outside:?}");
        }
    }
}
