//! Parses, tables and draws the objects of an answer, for `ask`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use image::{Rgb, RgbImage};
use paligemma_server::engine::TokenInfo;
use paligemma_server::models::{MASK_SIDE, MaskDecoder};
use paligemma_server::pixels::mask::Mask;
use paligemma_server::tasks::bounding_box::{DetectedObject, edges};
use paligemma_server::tasks::detection::Detection;
use paligemma_server::tasks::detection_parser::{DetectionParser, Piece, TokenProbability};

/// The colours that objects are drawn in, with their names in the table; they repeat.
const COLOURS: [(&str, [u8; 3]); 6] = [
    ("red", [230, 30, 40]),
    ("blue", [20, 110, 240]),
    ("green", [10, 160, 70]),
    ("orange", [245, 140, 0]),
    ("purple", [150, 50, 200]),
    ("cyan", [0, 170, 190]),
];

/// The objects of an answer, parsed while it streams.
pub struct Detections {
    parser: DetectionParser,
    found: Vec<Detection>,
    dropped: usize,
}

impl Detections {
    /// `None` unless the prompt's task is `detect` or `segment`; others have no objects.
    pub fn of_prompt(prompt: &str) -> Option<Self> {
        let masks = match prompt.split_whitespace().next() {
            Some("detect") => false,
            Some("segment") => true,
            _ => return None,
        };
        Some(Self {
            parser: DetectionParser::new(masks),
            found: Vec::new(),
            dropped: 0,
        })
    }

    pub fn push(&mut self, text: &str, tokens: &[TokenInfo]) {
        let tokens: Vec<_> = tokens.iter().map(TokenProbability::from).collect();
        let pieces = self.parser.push(text, &tokens);
        self.take(pieces);
    }

    pub fn finish(&mut self) {
        let pieces = self.parser.finish();
        self.take(pieces);
    }

    fn take(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                Ok(object) => self.found.push(object),
                Err(_) => self.dropped += 1,
            }
        }
    }

    /// One line per object: its box in pixels of a picture of this size, its score and its label.
    pub fn table(&self, size: (u32, u32)) -> String {
        let mut table = format!(
            "{:>7} {:>7} {:>7} {:>7}  {:>5}  {:<7} label\n",
            "x0", "y0", "x1", "y1", "score", "drawn"
        );
        for (index, object) in self.found.iter().enumerate() {
            let pixels = DetectedObject::new(object, size).pixels;
            // Writing to a String doesn't fail.
            let _ = writeln!(
                table,
                "{:>7.1} {:>7.1} {:>7.1} {:>7.1}  {:>5.3}  {:<7} {}",
                pixels.x0,
                pixels.y0,
                pixels.x1,
                pixels.y1,
                object.score,
                colour(index).0,
                object.label,
            );
        }
        if self.found.is_empty() {
            table = "nothing was found\n".to_owned();
        }
        if self.dropped > 0 {
            let _ = writeln!(table, "skipped {} malformed pieces", self.dropped);
        }
        table
    }

    /// Draws boxes and, with a decoder, masks on `picture` and writes it to `path` in the format of
    /// its extension.
    pub fn draw(
        &self,
        mut picture: RgbImage,
        decoder: Option<&MaskDecoder>,
        path: &Path,
    ) -> anyhow::Result<()> {
        let line = (picture.width().max(picture.height()) / 250).max(2);
        for (index, object) in self.found.iter().enumerate() {
            let (_, colour) = colour(index);
            let edges = edges(object);
            if let (Some(decoder), Some(codes)) = (decoder, &object.codes) {
                let values = decoder.decode(codes)?;
                let size = picture.dimensions();
                Mask::new(values, MASK_SIDE as u32, edges, size).tint(&mut picture, colour);
            }
            outline(&mut picture, edges, line, Rgb(colour));
        }
        picture
            .save(path)
            .with_context(|| format!("--draw {}", path.display()))
    }
}

fn colour(index: usize) -> (&'static str, [u8; 3]) {
    COLOURS[index % COLOURS.len()]
}

/// Draws a rectangle `line` pixels thick inside the edges, and a white one inside that, so that it is
/// visible on any background.
fn outline(picture: &mut RgbImage, [y0, x0, y1, x1]: [f64; 4], line: u32, colour: Rgb<u8>) {
    let (width, height) = picture.dimensions();
    let at = |edge: f64, length: u32| (edge * f64::from(length)).round() as u32;
    let (left, right) = (at(x0, width), at(x1, width).min(width));
    let (upper, lower) = (at(y0, height), at(y1, height).min(height));
    for y in upper..lower {
        for x in left..right {
            let depth = (x - left)
                .min(right - 1 - x)
                .min(y - upper)
                .min(lower - 1 - y);
            if depth < line {
                picture.put_pixel(x, y, colour);
            } else if depth < 2 * line {
                picture.put_pixel(x, y, Rgb([255; 3]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_tabled_in_pixels_and_drawn_where_they_are() {
        let mut detections = Detections::of_prompt("detect cat ; dog").unwrap();
        detections.push(
            "<loc0000><loc0000><loc1023><loc0511> cat ; <loc0001> dog",
            &[],
        );
        detections.finish();
        let table = detections.table((200, 100));
        assert!(table.contains("    0.0     0.0    99.9   100.0"), "{table}");
        assert!(table.contains("1 malformed"), "{table}");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drawn.png");
        detections
            .draw(RgbImage::new(200, 100), None, &path)
            .unwrap();
        let drawn = image::open(&path).unwrap().into_rgb8();
        assert_eq!(drawn.get_pixel(0, 50).0, COLOURS[0].1);
        assert_eq!(drawn.get_pixel(99, 99).0, COLOURS[0].1);
        assert_eq!(drawn.get_pixel(50, 50).0, [0; 3]);
        assert_eq!(drawn.get_pixel(150, 50).0, [0; 3]);
    }

    #[test]
    fn only_prompts_that_ask_where_have_objects() {
        assert!(Detections::of_prompt("caption en").is_none());
        assert!(Detections::of_prompt("segment cat").is_some());
    }
}
