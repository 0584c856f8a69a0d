//! Masks in COCO's compressed run-length encoding.

use image::{GrayImage, Luma};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Mask;

/// Pixels of the largest picture of which a mask is made from its text: no server takes one.
const MOST_PIXELS: i64 = 1 << 30;

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

    /// The mask, or `None` if `counts` is not in COCO's text form or not of that many pixels.
    pub fn mask(&self) -> Option<Mask> {
        let [height, width] = self.size;
        let lengths = lengths(&self.counts)?;
        let pixels = i64::from(height) * i64::from(width);
        if pixels > MOST_PIXELS || lengths.iter().sum::<i64>() != pixels {
            return None;
        }
        let mut inside = GrayImage::new(width, height);
        let mut at = 0;
        for (length, value) in lengths.into_iter().zip([0, 255].into_iter().cycle()) {
            if value > 0 {
                for pixel in at..at + length {
                    let (x, y) = (pixel / i64::from(height), pixel % i64::from(height));
                    inside.put_pixel(x as u32, y as u32, Luma([value]));
                }
            }
            at += length;
        }
        Some(Mask {
            width,
            height,
            x: 0,
            y: 0,
            inside,
        })
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

#[cfg(test)]
mod tests {
    use super::super::tests::left_half;
    use super::*;

    #[test]
    fn runs_tell_the_mask_and_its_area_again() {
        let corner = |x: usize, y: usize| if x * y < 200 { 1.0 } else { -1.0 };
        let values = (0..64).flat_map(|y| (0..64).map(move |x| corner(x, y)));
        for (edges, size) in [
            ([0.2, 0.3, 0.6, 0.7], (10, 5)),
            ([0.0, 0.0, 1.0, 1.0], (300, 999)),
            ([0.1, 0.2, 0.9, 0.3], (3000, 1999)),
        ] {
            let mask = Mask::new(values.clone().collect(), 64, edges, size);
            assert_eq!(mask.rle().area(), Some(mask.area()), "{size:?}");
            let again = mask.rle().mask().expect("the text is ours");
            assert_eq!(again.rle(), mask.rle(), "{size:?}");
            assert_eq!(again.brush(), mask.brush(), "{size:?}");
        }
        for counts in ["P", "PPYo", "é", "~~~~~~~~~~~~~~~~0"] {
            let size = [1, 1];
            let counts = counts.to_owned();
            let damaged = Rle { size, counts };
            assert_eq!((damaged.area(), damaged.mask()), (None, None));
        }
        let other_size = Rle {
            size: [5, 11],
            ..left_half().rle()
        };
        assert_eq!(other_size.mask(), None);
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
