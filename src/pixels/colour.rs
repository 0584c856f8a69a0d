//! Whatever samples a decoder gives, as 8-bit RGB on white.
//!
//! - 16-bit samples keep their high byte, as Pillow's "RGB;16B" raw mode does for colour. (Pillow
//!   clips 16-bit *grey* at 255 instead, which makes almost every picture white; that is not
//!   followed.)
//! - Alpha is composited on white with Pillow's rounding (`Image.alpha_composite`).
//! - Floating-point samples (TIFF only) are taken to run from 0 to 1.
//! - Colour profiles are ignored.

use image::{ColorType, DynamicImage, ImageDecoder, ImageResult, RgbImage};

/// What `decoder` gives, as RGB. Samples wider than that become RGB where they lie, so that a large
/// picture is in memory once.
///
/// # Errors
/// Those of the decoder.
pub(super) fn decode(decoder: impl ImageDecoder) -> ImageResult<RgbImage> {
    let (width, height) = decoder.dimensions();
    let pixel: fn(&[u8]) -> [u8; 3] = match decoder.color_type() {
        ColorType::Rgba8 => |p| rgba_on_white(&[p[0], p[1], p[2], p[3]]),
        // Samples are in the machine's order of bytes.
        ColorType::Rgb16 => |p| [wide(p, 0), wide(p, 1), wide(p, 2)].map(high_byte),
        ColorType::Rgba16 => |p| {
            let samples = [wide(p, 0), wide(p, 1), wide(p, 2), wide(p, 3)];
            rgba_on_white(&samples.map(high_byte))
        },
        _ => return DynamicImage::from_decoder(decoder).map(to_rgb),
    };
    let width_of_pixel = usize::from(decoder.color_type().bytes_per_pixel());
    // The decoder's limits have been checked against this.
    let mut bytes = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut bytes)?;
    let mut end = 0;
    for at in (0..bytes.len()).step_by(width_of_pixel) {
        let rgb = pixel(&bytes[at..at + width_of_pixel]);
        bytes[end..end + 3].copy_from_slice(&rgb);
        end += 3;
    }
    // Its memory stays as it is: to give some back, the allocator would copy the picture.
    bytes.truncate(end);
    Ok(RgbImage::from_raw(width, height, bytes).expect("three bytes for every pixel"))
}

/// Bytes a pixel that the conversion takes beside what the decoder gives.
pub(super) fn beside(given: ColorType) -> u64 {
    match given {
        ColorType::Rgb8 | ColorType::Rgba8 | ColorType::Rgb16 | ColorType::Rgba16 => 0,
        ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16 => 3,
        // By way of RGBA.
        _ => 7,
    }
}

fn wide(pixel: &[u8], sample: usize) -> u16 {
    u16::from_ne_bytes([pixel[2 * sample], pixel[2 * sample + 1]])
}

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
