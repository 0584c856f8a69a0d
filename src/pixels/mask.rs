//! An object's mask, laid over the picture in which it was found.

use std::io::Cursor;

use image::imageops::{FilterType, resize};
use image::{GrayImage, ImageBuffer, ImageFormat, Luma, RgbImage};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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

/// A mask in COCO's compressed run-length encoding, as pycocotools reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rle {
    /// Height and width of the picture.
    pub size: [u32; 2],
    /// Lengths of runs outside and inside by turns, column by column, in COCO's text form.
    #[schema(example = "PPYo0")]
    pub counts: String,
}

impl Rle {
    /// Number of pixels inside, or `None` if `counts` is not in COCO's text form.
    pub fn area(&self) -> Option<usize> {
        let lengths = lengths(&self.counts)?;
        let inside = lengths.iter().skip(1).step_by(2);
        usize::try_from(inside.sum::<i64>()).ok()
    }
}

/// The lengths that [`Runs::text`] has written.
fn lengths(text: &str) -> Option<Vec<i64>> {
    let mut lengths: Vec<i64> = Vec::new();
    let mut bytes = text.bytes();
    while let Some(first) = bytes.next() {
        let (mut value, mut shift, mut byte) = (0_i64, 0, first);
        loop {
            let group = byte.checked_sub(48).filter(|group| *group < 64)?;
            // 12 groups are 60 bits: no picture is so large.
            if shift >= 60 {
                return None;
            }
            value |= i64::from(group & 0x1f) << shift;
            shift += 5;
            if group & 0x20 == 0 {
                if group & 0x10 != 0 {
                    value |= -1 << shift;
                }
                break;
            }
            byte = bytes.next()?;
        }
        let before = match lengths.len() {
            0..=2 => 0,
            index => lengths[index - 2],
        };
        let length = value.checked_add(before)?;
        lengths.push((0..=1 << 40).contains(&length).then_some(length)?);
    }
    Some(lengths)
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

    /// The mask in the run-length encoding of Label Studio's brush: the bits of RGBA pixels, row by row.
    /// `None` for a picture of more pixels than it can count.
    pub fn brush(&self) -> Option<Vec<u8>> {
        let values = u64::from(self.width) * u64::from(self.height) * 4;
        let mut bits = BrushBits::new(u32::try_from(values).ok()?);
        let (width, height) = self.inside.dimensions();
        let left = u64::from(self.x);
        let right = u64::from(self.width - self.x - width);
        let below = u64::from(self.height - self.y - height) * u64::from(self.width);
        bits.add(0, u64::from(self.y) * u64::from(self.width));
        for row in self.inside.rows() {
            bits.add(0, left);
            for pixel in row {
                bits.add(pixel.0[0], 1);
            }
            bits.add(0, right);
        }
        bits.add(0, below);
        Some(bits.finish())
    }

    /// The mask as runs.
    pub fn rle(&self) -> Rle {
        let (width, height) = self.inside.dimensions();
        let (below, right) = (self.height - self.y - height, self.width - self.x - width);
        let mut runs = Runs::default();
        runs.add(false, u64::from(self.x) * u64::from(self.height));
        for x in 0..width {
            runs.add(false, self.y.into());
            for y in 0..height {
                runs.add(self.inside.get_pixel(x, y).0[0] > 0, 1);
            }
            runs.add(false, below.into());
        }
        runs.add(false, u64::from(right) * u64::from(self.height));
        Rle {
            size: [self.height, self.width],
            counts: runs.text(),
        }
    }
}

/// Writes Label Studio's brush masks: `rle-pack` of umbrella with words of 8 bits, and lengths of 3, 4,
/// 8 or 16 bits.
struct BrushBits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are in use.
    used: u32,
    value: u8,
    /// Of the run, in values: four for each pixel.
    length: u64,
}

impl BrushBits {
    const LENGTHS: [u32; 4] = [3, 4, 8, 16];

    fn new(values: u32) -> Self {
        let mut bits = Self {
            bytes: Vec::new(),
            used: 8,
            value: 0,
            length: 0,
        };
        bits.write(values, 32);
        bits.write(8 - 1, 5);
        for length in Self::LENGTHS {
            bits.write(length - 1, 4);
        }
        bits
    }

    /// Adds pixels of that value.
    fn add(&mut self, value: u8, pixels: u64) {
        if pixels > 0 && value != self.value {
            self.end_run();
            self.value = value;
        }
        self.length += pixels * 4;
    }

    fn end_run(&mut self) {
        while self.length > 0 {
            let part = self.length.min(1 << 16) as u32;
            let kind = Self::LENGTHS.iter().position(|bits| part <= 1 << bits);
            let kind = kind.unwrap_or(Self::LENGTHS.len() - 1);
            self.write(1, 1);
            self.write(kind as u32, 2);
            self.write(part - 1, Self::LENGTHS[kind]);
            self.write(self.value.into(), 8);
            self.length -= u64::from(part);
        }
    }

    /// The lowest `count` bits of `bits`, the highest of them first.
    fn write(&mut self, bits: u32, count: u32) {
        for place in (0..count).rev() {
            if self.used == 8 {
                self.bytes.push(0);
                self.used = 0;
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((bits >> place & 1) as u8) << (7 - self.used);
            }
            self.used += 1;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.end_run();
        self.bytes
    }
}

/// Lengths of runs, the first of which is outside.
#[derive(Debug, Default)]
struct Runs {
    lengths: Vec<u64>,
    inside: bool,
    length: u64,
}

impl Runs {
    fn add(&mut self, inside: bool, length: u64) {
        if length > 0 && inside != self.inside {
            self.lengths.push(std::mem::take(&mut self.length));
            self.inside = inside;
        }
        self.length += length;
    }

    /// COCO's text form (`rleToString` in its `maskApi.c`): each length, from the fourth on less the
    /// one two before it, in groups of five bits, lowest first, with a sixth bit while more follow.
    fn text(mut self) -> String {
        self.lengths.push(self.length);
        let mut text = String::new();
        for (index, &length) in self.lengths.iter().enumerate() {
            let before = if index > 2 {
                self.lengths[index - 2]
            } else {
                0
            };
            let mut rest = length.cast_signed() - before.cast_signed();
            loop {
                let group = (rest & 0x1f) as u8;
                rest >>= 5;
                let more = if group & 0x10 == 0 {
                    rest != 0
                } else {
                    rest != -1
                };
                text.push(char::from(48 + group + if more { 0x20 } else { 0 }));
                if !more {
                    break;
                }
            }
        }
        text
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
mod tests {
    use super::*;

    #[test]
    fn runs_tell_the_area_again() {
        let corner = |x: usize, y: usize| if x * y < 200 { 1.0 } else { -1.0 };
        let values = (0..64).flat_map(|y| (0..64).map(move |x| corner(x, y)));
        for (edges, size) in [
            ([0.2, 0.3, 0.6, 0.7], (10, 5)),
            ([0.0, 0.0, 1.0, 1.0], (300, 999)),
            ([0.1, 0.2, 0.9, 0.3], (3000, 1999)),
        ] {
            let mask = Mask::new(values.clone().collect(), 64, edges, size);
            assert_eq!(mask.rle().area(), Some(mask.area()), "{size:?}");
        }
        for counts in ["P", "PPYo", "é", "~~~~~~~~~~~~~~~~0"] {
            let size = [1, 1];
            let counts = counts.to_owned();
            assert_eq!(Rle { size, counts }.area(), None);
        }
    }

    /// The left half of a 4 × 2 box at (3, 1) of a 10 × 5 picture.
    fn left_half() -> Mask {
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

    /// Expected texts come from pycocotools 2.0.11 (`mask.encode` of the same arrays).
    #[test]
    fn runs_are_written_as_pycocotools_writes_them() {
        let rle = left_half().rle();
        assert_eq!((rle.size, rle.counts.as_str()), ([5, 10], "`0230h0"));
        let values = (0..64).map(|i| if i * 5 % 7 < 3 { 1.0 } else { -1.0 });
        let edges = [90.0 / 300.0, 0.2, 98.0 / 300.0, 0.6];
        let counts = Mask::new(values.collect(), 8, edges, (20, 300))
            .rle()
            .counts;
        assert_eq!(
            counts,
            "ZX112001T9OlF1T9OlF1T9OlF10OT91lFOT91lFOT91lFO00R90nF001Xa2"
        );
    }
}
