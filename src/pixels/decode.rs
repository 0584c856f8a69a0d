//! Decodes a file into the picture as a person sees it: 8-bit RGB, upright.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use super::{ImageError, ImageLimits, colour, format, jpeg, tiff_modes};

/// Bytes a pixel in the widest layout that a decoder gives: RGBA in f32.
const WIDEST_PIXEL: u64 = 16;
/// What a decoder may allocate beside its pixels: tables, metadata, one compressed strip.
const DECODER_OVERHEAD: u64 = 16 << 20;

/// Decodes `bytes`, having checked the header against `limits` first, and turns the picture upright.
///
/// # Errors
/// See [`ImageError`]; everything but `ShuttingDown`.
pub(super) fn decode(bytes: &[u8], limits: ImageLimits) -> Result<RgbImage, ImageError> {
    let format = format::sniff(bytes)?;
    let failed = |e: image::ImageError| ImageError::from_decoder(format, &e);

    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut decoder_limits = Limits::default();
    decoder_limits.max_alloc = Some(
        limits
            .max_pixels
            .saturating_mul(WIDEST_PIXEL)
            .saturating_add(DECODER_OVERHEAD),
    );
    reader.limits(decoder_limits.clone());
    let mut decoder = match reader.into_decoder() {
        Err(image::ImageError::Unsupported(_)) if format == ImageFormat::Tiff => {
            let (image, orientation) = tiff_modes::decode(bytes, limits)?;
            return Ok(upright(image, orientation));
        }
        decoder => decoder.map_err(failed)?,
    };

    let (width, height) = decoder.dimensions();
    limits.check(format, (width, height))?;
    if format == ImageFormat::Jpeg && !jpeg::has_end(bytes) {
        return Err(ImageError::corrupt(format, "it ends before its end marker"));
    }

    // The decoder checks as well: it must not exceed what the header announces.
    decoder_limits.max_image_width = Some(width);
    decoder_limits.max_image_height = Some(height);
    decoder_limits
        .reserve(decoder.total_bytes())
        .map_err(failed)?;
    decoder.set_limits(decoder_limits).map_err(failed)?;

    let orientation = orientation(&mut decoder);
    let image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    Ok(upright(image, orientation))
}

fn upright(image: DynamicImage, orientation: Orientation) -> RgbImage {
    let mut image = DynamicImage::ImageRgb8(colour::to_rgb(image));
    image.apply_orientation(orientation);
    image.into_rgb8()
}

/// How the picture is to be turned; not at all when its metadata is missing or broken.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    match decoder.orientation() {
        Ok(Orientation::NoTransforms) | Err(_) => {}
        Ok(orientation) => return orientation,
    }
    // Some writers of WebP and PNG keep the prefix that EXIF has inside a JPEG.
    let exif = decoder.exif_metadata().ok().flatten();
    exif.and_then(|exif| Orientation::from_exif_chunk(exif.strip_prefix(b"Exif\0\0")?))
        .unwrap_or(Orientation::NoTransforms)
}
