//! An object's mask, laid over the picture in which it was found.

mod brush;
mod coco;

use std::io::Cursor;

use image::imageops::{FilterType, resize};
use image::{GrayImage, ImageBuffer, ImageFormat, Luma, RgbImage};

pub use coco::Rle;

/// Which pixels of a picture belong to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Of the picture, in pixels.
    width: u32,
    height: u32,
    /// Left and upper edge of the object's box in the picture.
    x: u32,
    y: u32,
    /// The box, 255 where the object is.
    inside: GrayImage,
}

impl Mask {
    /// Lays `side`² values, above 0 where the object is, over a box of a picture.
    ///
    /// `edges` are the box's upper, left, lower and right edge, from 0 to 1. The values are resized
    /// bilinearly, and a box is at least one pixel wide and high.
    pub fn new(values: Vec<f32>, side: u32, edges: [f64; 4], (width, height): (u32, u32)) -> Self {
        let [y0, x0, y1, x1] = edges;
        let span = |low: f64, high: f64, length: u32| {
            let low = (low * f64::from(length)).round() as u32;
            let low = low.min(length.saturating_sub(1));
            let high = (high * f64::from(length)).round() as u32;
            (low, high.clamp(low + 1, length.max(low + 1)) - low)
        };
        let ((x, box_width), (y, box_height)) = (span(x0, x1, width), span(y0, y1, height));
        let values = ImageBuffer::<Luma<f32>, _>::from_raw(side, side, values)
            .expect("as many values as the side says");
        let resized = resize(&values, box_width, box_height, FilterType::Triangle);
        let inside = GrayImage::from_fn(box_width, box_height, |x, y| {
            Luma([if resized.get_pixel(x, y).0[0] > 0.0 {
                255
            } else {
                0
            }])
        });
        Self {
            width,
            height,
            x,
            y,
            inside,
        }
    }

    /// A grey PNG of the box alone: 255 inside, 0 outside.
    pub fn box_png(&self) -> Vec<u8> {
        png(&self.inside)
    }

    /// The same at the size of the picture.
    pub fn image_png(&self) -> Vec<u8> {
        let mut picture = GrayImage::new(self.width, self.height);
        image::imageops::replace(&mut picture, &self.inside, self.x.into(), self.y.into());
        png(&picture)
    }

    /// Colours the object in the picture, half transparent.
    pub fn tint(&self, picture: &mut RgbImage, colour: [u8; 3]) {
        for (x, y, pixel) in self.inside.enumerate_pixels() {
            if pixel.0[0] > 0 {
                let under = picture.get_pixel_mut(self.x + x, self.y + y);
                for (under, over) in under.0.iter_mut().zip(colour) {
                    *under = under.midpoint(over);
                }
            }
        }
    }

    /// Pixels that belong to the object.
    pub fn area(&self) -> usize {
        let inside = self.inside.pixels().filter(|pixel| pixel.0[0] > 0);
        inside.count()
    }
}

fn png(image: &GrayImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, ImageFormat::Png)
        .expect("a grey picture in memory can be written");
    bytes.into_inner()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The left half of a 4 × 2 box at (3, 1) of a 10 × 5 picture.
    pub(super) fn left_half() -> Mask {
        let values = vec![1.0, -1.0, 1.0, -1.0];
        Mask::new(values, 2, [0.2, 0.3, 0.6, 0.7], (10, 5))
    }

    fn white_pixels(png: &[u8]) -> (u32, u32, Vec<(u32, u32)>) {
        let image = image::load_from_memory(png).unwrap().into_luma8();
        let white = image
            .enumerate_pixels()
            .filter(|(_, _, pixel)| pixel.0 == [255]);
        (
            image.width(),
            image.height(),
            white.map(|(x, y, _)| (x, y)).collect(),
        )
    }

    #[test]
    fn a_mask_is_as_large_as_its_box_or_lies_in_the_whole_picture() {
        let mask = left_half();
        let in_box = vec![(0, 0), (1, 0), (0, 1), (1, 1)];
        assert_eq!(white_pixels(&mask.box_png()), (4, 2, in_box));
        let in_picture = vec![(3, 1), (4, 1), (3, 2), (4, 2)];
        assert_eq!(white_pixels(&mask.image_png()), (10, 5, in_picture));
    }

    #[test]
    fn a_box_without_extent_is_one_pixel_inside_the_picture() {
        let mask = Mask::new(vec![1.0; 4], 2, [1.0, 1.0, 1.0, 1.0], (10, 5));
        assert_eq!(white_pixels(&mask.image_png()), (10, 5, vec![(9, 4)]));
    }
}
