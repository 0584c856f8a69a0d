//! Draws the objects of an answer on its picture, for `ask --draw`.

mod label;

use image::{Rgb, RgbImage};
use paligemma_server::models::{MASK_SIDE, MaskDecoder};
use paligemma_server::pixels::mask::Mask;
use paligemma_server::tasks::bounding_box::edges;
use paligemma_server::tasks::detection::Detection;

use label::{Area, Label};

/// The colours that objects are drawn in, with their names in the table; they repeat.
const COLOURS: [(&str, [u8; 3]); 6] = [
    ("red", [230, 30, 40]),
    ("blue", [20, 110, 240]),
    ("green", [10, 160, 70]),
    ("orange", [245, 140, 0]),
    ("purple", [150, 50, 200]),
    ("cyan", [0, 170, 190]),
];

/// The colour of an object, by its place in the answer.
pub fn colour(index: usize) -> (&'static str, [u8; 3]) {
    COLOURS[index % COLOURS.len()]
}

/// Draws each object's box, its label with its score and, with a decoder, its mask.
///
/// # Errors
/// When a mask can't be decoded.
pub fn draw(
    mut picture: RgbImage,
    objects: &[Detection],
    decoder: Option<&MaskDecoder>,
) -> anyhow::Result<RgbImage> {
    let size = picture.dimensions();
    let areas: Vec<_> = objects
        .iter()
        .map(|object| Area::of_box(edges(object), size))
        .collect();
    for (index, (object, area)) in objects.iter().zip(&areas).enumerate() {
        let (_, colour) = colour(index);
        if let (Some(decoder), Some(codes)) = (decoder, &object.codes) {
            let values = decoder.decode(codes)?;
            Mask::new(values, MASK_SIDE as u32, edges(object), size).tint(&mut picture, colour);
        }
        outline(&mut picture, *area, Rgb(colour));
    }
    // Labels come last, so that no box or mask covers them.
    let mut taken = Vec::new();
    for (index, (object, area)) in objects.iter().zip(&areas).enumerate() {
        let text = format!("{} {:.2}", object.label, object.score);
        let label = Label::new(text.trim(), size);
        let place = label.place(*area, &areas, &taken, size);
        label.draw(&mut picture, place, colour(index).1);
        taken.push(place);
    }
    Ok(picture)
}

/// Draws a rectangle inside the area's edges, and a white one inside that, so that it is visible on
/// any background.
fn outline(picture: &mut RgbImage, area: Area, colour: Rgb<u8>) {
    let line = (picture.width().max(picture.height()) / 250).max(2);
    for y in area.top..area.bottom {
        for x in area.left..area.right {
            let depth = (x - area.left)
                .min(area.right - 1 - x)
                .min(y - area.top)
                .min(area.bottom - 1 - y);
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

    fn object(label: &str, bins: [u16; 4]) -> Detection {
        Detection {
            label: label.to_owned(),
            bins,
            codes: None,
            score: 0.5,
            logprob: 0.0,
        }
    }

    /// How many pixels have that colour.
    fn count(picture: &RgbImage, colour: [u8; 3]) -> usize {
        picture.pixels().filter(|pixel| pixel.0 == colour).count()
    }

    #[test]
    fn a_box_is_drawn_inside_its_edges() {
        let objects = [object("", [512, 0, 1023, 511])];
        let drawn = draw(RgbImage::new(200, 200), &objects, None).unwrap();
        assert_eq!(drawn.get_pixel(0, 150).0, COLOURS[0].1);
        assert_eq!(drawn.get_pixel(99, 199).0, COLOURS[0].1);
        assert_eq!(drawn.get_pixel(3, 150).0, [255; 3]);
        assert_eq!(drawn.get_pixel(50, 150).0, [0; 3]);
        assert_eq!(drawn.get_pixel(150, 150).0, [0; 3]);
    }

    #[test]
    fn a_label_stands_beside_its_box_in_the_box_s_colour() {
        let area = [400, 200, 600, 800];
        let bare = draw(RgbImage::new(300, 300), &[object("", area)], None).unwrap();
        let labelled = [object("a red circle", area)];
        let labelled = draw(RgbImage::new(300, 300), &labelled, None).unwrap();
        let [.., red] = [COLOURS[0].1];
        assert!(count(&labelled, red) > count(&bare, red) + 300);
        let inside =
            |picture: &RgbImage| image::imageops::crop_imm(picture, 59, 118, 175, 57).to_image();
        assert_eq!(inside(&bare), inside(&labelled));
    }

    #[test]
    fn any_label_fits_any_picture() {
        for (width, height) in [(1, 1), (3, 200), (200, 3), (64, 64)] {
            let long = object(&"no end \u{1f600} \u{7f} ".repeat(200), [0, 0, 1023, 1023]);
            let objects = vec![long; 20];
            let drawn = draw(RgbImage::new(width, height), &objects, None).unwrap();
            assert_eq!(drawn.dimensions(), (width, height));
        }
    }
}
