//! Colour modes of TIFF that the `image` crate refuses and the `tiff` crate reads: grey of 2, 4 or 32
//! bits, grey with alpha or other extra samples, and YCbCr.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageFormat, RgbaImage};
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::{PhotometricInterpretation, Tag};
use tiff::{ColorType, TiffError};

use super::{ImageError, ImageLimits};

/// `ExtraSamples`: nothing known about the sample.
const UNSPECIFIED: u16 = 0;
/// `PlanarConfiguration`: each kind of sample apart from the others.
const PLANAR: u16 = 2;
/// Bytes a pixel in the widest layout read here, whatever the file says of its samples.
const WIDEST_PIXEL: u64 = 16;
/// Grey, alpha, and a few samples that are passed over.
const MOST_SAMPLES: u16 = 4;

/// An upper bound of the memory that decoding takes, in bytes.
///
/// # Errors
/// A header that is damaged, or beyond the limits.
pub(super) fn memory(bytes: &[u8], limits: ImageLimits) -> Result<u64, ImageError> {
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions().map_err(failed)?;
    limits.check(ImageFormat::Tiff, (width, height))?;
    // The samples as they are and in bytes, RGBA, and RGB.
    Ok(u64::from(width) * u64::from(height) * (WIDEST_PIXEL + u64::from(MOST_SAMPLES) + 4 + 3))
}

/// Decodes the first picture of a TIFF, having checked its size against `limits`, and tells how it
/// is to be turned.
///
/// # Errors
/// [`ImageError::UnsupportedVariant`] for what neither crate reads, and those of a bad file.
pub(super) fn decode(
    bytes: &[u8],
    limits: ImageLimits,
) -> Result<(DynamicImage, Orientation), ImageError> {
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions().map_err(failed)?;
    limits.check(ImageFormat::Tiff, (width, height))?;
    let orientation = decoder
        .find_tag_unsigned(Tag::Orientation)
        .ok()
        .flatten()
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms);

    let interpretation: Option<u16> = decoder
        .find_tag_unsigned(Tag::PhotometricInterpretation)
        .map_err(failed)?;
    if interpretation == Some(PhotometricInterpretation::RGBPalette.to_u16()) {
        return Err(unsupported("its colours are in a palette"));
    }
    let samples = Samples::read(bytes)?;
    let pixels = match samples.is_ycbcr {
        true => samples.pixels(rgb_of_ycbcr),
        false => samples.pixels(|sample| [samples.scaled(sample[0]); 3]),
    };
    let image = RgbaImage::from_raw(width, height, pixels)
        .ok_or_else(|| ImageError::corrupt(ImageFormat::Tiff, "it holds too few pixels"))?;
    Ok((DynamicImage::ImageRgba8(image), orientation))
}

/// Samples of at most 8 bits, one byte each, those of a pixel side by side.
struct Samples {
    values: Vec<u8>,
    bits: u8,
    per_pixel: usize,
    has_alpha: bool,
    /// Luminance and two differences of colour.
    is_ycbcr: bool,
}

impl Samples {
    fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(failed)?;
        let color = decoder.colortype().map_err(failed)?;
        let (bits, per_pixel) = match color {
            ColorType::YCbCr(8) => (8, 3),
            ColorType::Gray(bits) => (bits, 1),
            ColorType::Multiband {
                bit_depth: bits @ (8 | 16),
                num_samples: samples @ ..=MOST_SAMPLES,
            } => (bits, samples),
            other => return Err(unsupported(format!("colour type {other:?}"))),
        };
        let extra: Option<Vec<u16>> = decoder
            .find_tag_unsigned_vec(Tag::ExtraSamples)
            .map_err(failed)?;
        let planes: Option<u16> = decoder
            .find_tag_unsigned(Tag::PlanarConfiguration)
            .map_err(failed)?;
        if per_pixel > 1 && planes == Some(PLANAR) {
            return Err(unsupported("samples in separate planes"));
        }

        let (width, height) = decoder.dimensions().map_err(failed)?;
        let most = u64::from(width) * u64::from(height) * WIDEST_PIXEL;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut decoder_limits = Limits::default();
        decoder_limits.decoding_buffer_size = most;
        decoder_limits.intermediate_buffer_size = most;
        let mut decoder = decoder.with_limits(decoder_limits);
        let values = match decoder.read_image().map_err(failed)? {
            DecodingResult::U8(packed) if bits < 8 => unpack(&packed, width as usize, bits),
            DecodingResult::U8(values) => values,
            DecodingResult::U16(values) => values.iter().map(|v| (v >> 8) as u8).collect(),
            // Wider levels are clipped, as Pillow does.
            DecodingResult::U32(values) => values.iter().map(|&v| v.min(255) as u8).collect(),
            DecodingResult::I32(values) => {
                values.iter().map(|v| (*v).clamp(0, 255) as u8).collect()
            }
            DecodingResult::F32(values) => values.iter().map(|&v| v as u8).collect(),
            _ => return Err(unsupported(format!("samples of {bits} bits"))),
        };
        Ok(Self {
            values,
            bits,
            per_pixel: per_pixel.into(),
            is_ycbcr: matches!(color, ColorType::YCbCr(_)),
            has_alpha: extra.is_some_and(|extra| extra.first().is_some_and(|&e| e != UNSPECIFIED)),
        })
    }

    /// Every pixel as red, green, blue and alpha; `colour` makes the first three of its samples.
    fn pixels(&self, colour: impl Fn(&[u8]) -> [u8; 3]) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(self.values.len() / self.per_pixel * 4);
        for samples in self.values.chunks_exact(self.per_pixel) {
            let alpha = if self.has_alpha { samples.get(1) } else { None };
            pixels.extend_from_slice(&colour(samples));
            pixels.push(*alpha.unwrap_or(&255));
        }
        pixels
    }

    /// A level of `bits` bits as one of 8.
    fn scaled(&self, level: u8) -> u8 {
        match self.bits {
            1 => level * 255,
            2 => level * 85,
            4 => level * 17,
            _ => level,
        }
    }
}

/// Full-range BT.601, as in JPEG files.
fn rgb_of_ycbcr(sample: &[u8]) -> [u8; 3] {
    let [y, cb, cr] = [0, 1, 2].map(|index| f32::from(sample[index]));
    let (cb, cr) = (cb - 128.0, cr - 128.0);
    [
        y + 1.402 * cr,
        y - 0.344_136 * cb - 0.714_136 * cr,
        y + 1.772 * cb,
    ]
    .map(|level| level.round() as u8)
}

/// Samples of 1, 2 or 4 bits, the first in the highest bits, every row beginning at a byte.
fn unpack(packed: &[u8], width: usize, bits: u8) -> Vec<u8> {
    let in_a_byte = usize::from(8 / bits);
    let mask = u8::MAX >> (8 - bits);
    packed
        .chunks_exact(width.div_ceil(in_a_byte))
        .flat_map(|row| {
            (0..width).map(move |x| {
                let shift = 8 - bits * (x % in_a_byte + 1) as u8;
                (row[x / in_a_byte] >> shift) & mask
            })
        })
        .collect()
}

fn failed(error: TiffError) -> ImageError {
    match error {
        TiffError::UnsupportedError(e) => unsupported(e.to_string()),
        TiffError::LimitsExceeded => ImageError::TooMuchMemory { format: "TIFF" },
        TiffError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::corrupt(ImageFormat::Tiff, "it ends too early")
        }
        other => ImageError::corrupt(ImageFormat::Tiff, other.to_string()),
    }
}

fn unsupported(reason: impl Into<String>) -> ImageError {
    ImageError::UnsupportedVariant {
        format: "TIFF",
        reason: reason.into(),
    }
}
