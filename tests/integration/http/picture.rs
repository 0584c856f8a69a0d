//! Pictures to send.

use std::io::Cursor;

use base64::prelude::{BASE64_STANDARD, Engine};
use image::{ImageFormat, Rgb, RgbImage};

/// A PNG of one colour, so that the toy model can tell it from others.
pub fn png(shade: u8) -> Vec<u8> {
    encode(&RgbImage::from_pixel(28, 28, Rgb([shade; 3])))
}

/// The same in base64.
pub fn base64(shade: u8) -> String {
    BASE64_STANDARD.encode(png(shade))
}

/// A PNG of these RGB bytes.
pub fn png_of(side: u32, rgb: Vec<u8>) -> Vec<u8> {
    encode(&RgbImage::from_raw(side, side, rgb).unwrap())
}

/// A PNG of that size.
pub fn png_sized(width: u32, height: u32) -> Vec<u8> {
    encode(&RgbImage::new(width, height))
}

fn encode(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}
