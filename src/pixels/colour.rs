//! Whatever samples a decoder gives, as 8-bit RGB on white.
//!
//! - 16-bit samples keep their high byte, as Pillow's "RGB;16B" raw mode does for colour. (Pillow
//!   clips 16-bit *grey* at 255 instead, which makes almost every picture white; that is not
//!   followed.)
//! - Alpha is composited on white with Pillow's rounding (`Image.alpha_composite`).
//! - Floating-point samples (TIFF only) are taken to run from 0 to 1.
//! - Colour profiles are ignored.

use image::{DynamicImage, RgbImage};

/// `image` as RGB, 8 bits a sample, alpha composited on white.
pub(super) fn to_rgb(image: DynamicImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let data = match image {
        DynamicImage::ImageRgb8(rgb) => return rgb,
        DynamicImage::ImageLuma8(grey) => convert(&grey, |&[l]| [l; 3]),
        DynamicImage::ImageLumaA8(grey) => convert(&grey, |&[l, a]| [on_white(l, a); 3]),
        DynamicImage::ImageRgba8(rgba) => convert(&rgba, rgba_on_white),
        DynamicImage::ImageLuma16(grey) => convert(&grey, |&[l]| [high_byte(l); 3]),
        DynamicImage::ImageLumaA16(grey) => {
            convert(&grey, |&[l, a]| [on_white(high_byte(l), high_byte(a)); 3])
        }
        DynamicImage::ImageRgb16(rgb) => convert(&rgb, |rgb| rgb.map(high_byte)),
        DynamicImage::ImageRgba16(rgba) => {
            convert(&rgba, |rgba| rgba_on_white(&rgba.map(high_byte)))
        }
        float => convert(&float.into_rgba8(), rgba_on_white),
    };
    RgbImage::from_raw(width, height, data).expect("three bytes for every pixel of the input")
}

/// Every `CHANNELS` samples as one RGB pixel.
fn convert<T, const CHANNELS: usize>(
    samples: &[T],
    pixel: impl Fn(&[T; CHANNELS]) -> [u8; 3],
) -> Vec<u8> {
    let (pixels, _) = samples.as_chunks::<CHANNELS>();
    pixels.iter().flat_map(pixel).collect()
}

fn rgba_on_white(&[r, g, b, a]: &[u8; 4]) -> [u8; 3] {
    [on_white(r, a), on_white(g, a), on_white(b, a)]
}

/// One sample over white: `sample · alpha + 255 · (1 − alpha)`, rounded to nearest.
fn on_white(sample: u8, alpha: u8) -> u8 {
    let (sample, alpha) = (u32::from(sample), u32::from(alpha));
    ((sample * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

fn high_byte(sample: u16) -> u8 {
    (sample >> 8) as u8
}
