//! Labels beside boxes: how large they are, where there is room for them, and how they are drawn.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, OutlinedGlyph, PxScaleFont, ScaleFont, point};
use image::{Rgb, RgbImage};

/// DejaVu Sans Bold. It has Latin, Greek, Cyrillic and other alphabets, but no Chinese, Japanese or
/// Korean; characters that it lacks become empty boxes.
static FONT: LazyLock<FontRef<'static>> = LazyLock::new(|| {
    FontRef::try_from_slice(include_bytes!("font/DejaVuSans-Bold.ttf"))
        .expect("the font in the binary is whole")
});

/// The height of text, as a part of the picture's longer side, and in pixels at least.
const TEXT_HEIGHT: f32 = 1.0 / 32.0;
const LEAST_TEXT_HEIGHT: f32 = 15.0;

/// A longer label isn't read, and takes long to fit.
const MOST_CHARACTERS: usize = 200;

/// A rectangle of a picture, in whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    pub left: u32,
    pub top: u32,
    pub right: u32,
    pub bottom: u32,
}

impl Area {
    /// The box with these upper, left, lower and right edges, from 0 to 1, in a picture of that size.
    pub fn of_box([y0, x0, y1, x1]: [f64; 4], (width, height): (u32, u32)) -> Self {
        let at = |edge: f64, length: u32| ((edge * f64::from(length)).round() as u32).min(length);
        Self {
            left: at(x0, width),
            top: at(y0, height),
            right: at(x1, width),
            bottom: at(y1, height),
        }
    }

    /// How many pixels are in both.
    fn overlap(&self, other: &Self) -> u64 {
        let width = self
            .right
            .min(other.right)
            .saturating_sub(self.left.max(other.left));
        let height = self
            .bottom
            .min(other.bottom)
            .saturating_sub(self.top.max(other.top));
        u64::from(width) * u64::from(height)
    }
}

/// A line of text on a coloured ground.
pub struct Label {
    glyphs: Vec<OutlinedGlyph>,
    width: u32,
    height: u32,
}

impl Label {
    /// For a picture of that width and height. Text that is too wide for it ends with `…`.
    pub fn new(text: &str, (width, height): (u32, u32)) -> Self {
        let text_height = (width.max(height) as f32 * TEXT_HEIGHT)
            .max(LEAST_TEXT_HEIGHT)
            .min(height as f32 / 4.0);
        let font = FONT.as_scaled(text_height);
        let (side, above) = (text_height / 4.0, text_height / 10.0);
        let text: String = text
            .chars()
            .map(|character| {
                if character.is_control() {
                    ' '
                } else {
                    character
                }
            })
            .take(MOST_CHARACTERS)
            .collect();
        let text = fit(&text, width as f32 - 2.0 * side, &font);
        let mut glyphs = Vec::new();
        let end = lay_out(&text, &font, |id, x| {
            let position = point(side + x, above + font.ascent());
            let glyph = id.with_scale_and_position(font.scale(), position);
            glyphs.extend(font.outline_glyph(glyph));
        });
        Self {
            glyphs,
            width: ((end + 2.0 * side).ceil() as u32).min(width),
            height: ((text_height + 2.0 * above).ceil() as u32).min(height),
        }
    }

    /// Where to draw it: above the box if there is room, else below or beside it, else inside. Earlier
    /// labels in `taken` and, as far as possible, the `boxes` of all objects stay uncovered.
    pub fn place(&self, object: Area, boxes: &[Area], taken: &[Area], size: (u32, u32)) -> Area {
        let covered = |place: &Area| {
            let labels: u64 = taken.iter().map(|label| label.overlap(place)).sum();
            let boxes: u64 = boxes.iter().map(|other| other.overlap(place)).sum();
            4 * labels + 2 * object.overlap(place) + boxes
        };
        let places = self.candidates(object, size);
        // The first of the best.
        let best = places.into_iter().min_by_key(covered);
        best.expect("there are always some candidates")
    }

    /// Places inside the picture, those that are easiest to read first.
    fn candidates(&self, object: Area, (width, height): (u32, u32)) -> Vec<Area> {
        let (wide, high) = (i64::from(self.width), i64::from(self.height));
        let [left, top, right, bottom] =
            [object.left, object.top, object.right, object.bottom].map(i64::from);
        let mut corners = vec![
            (left, top - high),
            (right - wide, top - high),
            (left, bottom),
            (right - wide, bottom),
            (right, top),
            (right, bottom - high),
            (left - wide, top),
            (left - wide, bottom - high),
            (left, top),
            (right - wide, top),
            (left, bottom - high),
            (right - wide, bottom - high),
        ];
        // Rows below, for boxes that lie one on another.
        corners.extend((1..i64::from(height) / high.max(1)).map(|row| (left, top + row * high)));
        let inside = |(x, y): (i64, i64)| {
            let left = x.clamp(0, i64::from(width) - wide) as u32;
            let top = y.clamp(0, i64::from(height) - high) as u32;
            Area {
                left,
                top,
                right: left + self.width,
                bottom: top + self.height,
            }
        };
        corners.into_iter().map(inside).collect()
    }

    /// Draws it at `place`, in black or white on `ground`, whichever is easier to read.
    pub fn draw(&self, picture: &mut RgbImage, place: Area, ground: [u8; 3]) {
        for y in place.top..place.bottom {
            for x in place.left..place.right {
                picture.put_pixel(x, y, Rgb(ground));
            }
        }
        let text = text_colour(ground);
        for glyph in &self.glyphs {
            let corner = glyph.px_bounds().min;
            glyph.draw(|x, y, coverage| {
                let x = place.left as i64 + corner.x as i64 + i64::from(x);
                let y = place.top as i64 + corner.y as i64 + i64::from(y);
                let inside = (i64::from(place.left)..i64::from(place.right)).contains(&x)
                    && (i64::from(place.top)..i64::from(place.bottom)).contains(&y);
                if inside {
                    let pixel = mixed(ground, text, coverage.clamp(0.0, 1.0));
                    picture.put_pixel(x as u32, y as u32, pixel);
                }
            });
        }
    }
}

/// Calls `each` with every glyph of a line and where it starts; returns where the line ends.
fn lay_out(
    text: &str,
    font: &PxScaleFont<&FontRef<'static>>,
    mut each: impl FnMut(ab_glyph::GlyphId, f32),
) -> f32 {
    let (mut x, mut last) = (0.0, None);
    for character in text.chars() {
        let id = font.glyph_id(character);
        x += last.map_or(0.0, |last| font.kern(last, id));
        each(id, x);
        x += font.h_advance(id);
        last = Some(id);
    }
    x
}

/// `text`, cut so that it is not wider than `room` pixels.
fn fit(text: &str, room: f32, font: &PxScaleFont<&FontRef<'static>>) -> String {
    let width = |text: &str| lay_out(text, font, |_, _| {});
    if width(text) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    for character in text.chars() {
        if width(&format!("{kept}{character}…")) > room {
            break;
        }
        kept.push(character);
    }
    kept + "…"
}

/// Black or white, whichever has more contrast with `ground` (WCAG 2).
fn text_colour(ground: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = ground.map(|value| {
        let value = f32::from(value) / 255.0;
        match value <= 0.04045 {
            true => value / 12.92,
            false => ((value + 0.055) / 1.055).powf(2.4),
        }
    });
    let luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    match 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.05 {
        true => [255; 3],
        false => [0; 3],
    }
}

fn mixed(ground: [u8; 3], text: [u8; 3], coverage: f32) -> Rgb<u8> {
    let mix = |index: usize| {
        let (low, high) = (f32::from(ground[index]), f32::from(text[index]));
        (low + (high - low) * coverage).round() as u8
    };
    Rgb([mix(0), mix(1), mix(2)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (u32, u32) = (400, 300);

    fn area(left: u32, top: u32, right: u32, bottom: u32) -> Area {
        Area {
            left,
            top,
            right,
            bottom,
        }
    }

    fn place(object: Area, others: &[Area], taken: &[Area]) -> Area {
        let boxes = [&[object][..], others].concat();
        Label::new("red circle 0.87", SIZE).place(object, &boxes, taken, SIZE)
    }

    #[test]
    fn a_label_stands_above_its_box_or_where_there_is_room() {
        let middle = area(100, 100, 300, 200);
        let above = place(middle, &[], &[]);
        assert_eq!((above.left, above.bottom), (100, 100));
        // At the upper edge of the picture: below. At the right one: aligned with the box's right edge.
        let below = place(area(100, 0, 300, 200), &[], &[]);
        assert_eq!((below.left, below.top), (100, 200));
        let corner = place(area(390, 100, 400, 200), &[], &[]);
        assert_eq!((corner.right, corner.bottom), (400, 100));
        // From the upper to the lower edge: beside it.
        let beside = place(area(0, 0, 100, 300), &[], &[]);
        assert_eq!((beside.left, beside.top), (100, 0));
        // No room outside.
        let inside = place(area(0, 0, 400, 300), &[], &[]);
        assert_eq!((inside.left, inside.top), (0, 0));
    }

    #[test]
    fn a_label_covers_neither_other_labels_nor_other_boxes() {
        let object = area(100, 100, 300, 200);
        let over = area(100, 50, 300, 98);
        let below = place(object, &[over], &[]);
        assert_eq!(below.top, 200);
        let mut taken: Vec<Area> = Vec::new();
        for _ in 0..8 {
            let next = place(object, &[], &taken);
            assert!(
                taken.iter().all(|other| other.overlap(&next) == 0),
                "{taken:?} {next:?}"
            );
            taken.push(next);
        }
    }

    #[test]
    fn a_wide_label_is_cut() {
        let text = "a very long label ".repeat(20);
        let (long, short) = (Label::new(&text, SIZE), Label::new("a", SIZE));
        assert!(long.width <= SIZE.0 && short.width < 60);
        let font = FONT.as_scaled(20.0);
        let cut = fit("a very long label", 80.0, &font);
        assert!(cut.starts_with("a ve") && cut.ends_with('…'), "{cut}");
        assert_eq!(fit("short", 80.0, &font), "short");
    }

    #[test]
    fn text_contrasts_with_its_ground() {
        assert_eq!(text_colour([255, 240, 0]), [0; 3]);
        assert_eq!(text_colour([245, 140, 0]), [0; 3]);
        assert_eq!(text_colour([20, 60, 200]), [255; 3]);
    }
}
