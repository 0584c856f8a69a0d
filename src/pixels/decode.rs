//! Decodes a file into the picture as a person sees it: 8-bit RGB, upright.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use super::png::PngDecoder;
use super::{ImageError, ImageLimits, colour, format, jpeg, tiff_modes, tiff_tags, webp};

/// What a decoder may allocate beside its pixels: tables, metadata, one compressed strip.
const DECODER_OVERHEAD: u64 = 16 << 20;

/// A file whose format is known.
pub(super) struct File<'a> {
    format: ImageFormat,
    bytes: &'a [u8],
}

/// A decoder that has read the file's header.
enum Decoder<'a> {
    Common(Box<dyn ImageDecoder + 'a>),
    /// A mode of TIFF that the `image` crate refuses.
    TiffMode,
}

impl<'a> File<'a> {
    /// Tells the format of `bytes`.
    ///
    /// # Errors
    /// When it is none that is read here.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let format = format::sniff(bytes)?;
        if format == ImageFormat::Tiff {
            tiff_tags::check(bytes)?;
        }
        Ok(Self { format, bytes })
    }

    /// An upper bound of the memory that decoding takes at its peak, in bytes, by the header, which is
    /// checked against `limits`.
    ///
    /// # Errors
    /// A header that is damaged, or beyond the limits.
    pub(super) fn memory(&self, limits: ImageLimits) -> Result<u64, ImageError> {
        let memory = match self.open(limits)? {
            Decoder::Common(decoder) => memory(self.format, &decoder),
            Decoder::TiffMode => tiff_modes::memory(self.bytes, limits)?,
        };
        match memory <= limits.memory {
            true => Ok(memory),
            false => Err(ImageError::MoreThanAllMemory {
                memory,
                most: limits.memory,
            }),
        }
    }

    /// Decodes the picture and turns it upright.
    ///
    /// # Errors
    /// See [`ImageError`]; everything but `ShuttingDown`.
    pub(super) fn decode(&self, limits: ImageLimits) -> Result<RgbImage, ImageError> {
        let failed = |e: image::ImageError| ImageError::from_decoder(self.format, &e);
        let mut decoder = match self.open(limits)? {
            Decoder::Common(decoder) => decoder,
            Decoder::TiffMode => {
                let (image, orientation) = tiff_modes::decode(self.bytes, limits)?;
                return Ok(upright(colour::to_rgb(image), orientation));
            }
        };
        if self.format == ImageFormat::Jpeg && !jpeg::has_end(self.bytes) {
            let reason = "it ends before its end marker";
            return Err(ImageError::corrupt(self.format, reason));
        }
        let (width, height) = decoder.dimensions();
        if self.format == ImageFormat::WebP && !webp::frames_fit(self.bytes, (width, height)) {
            let reason = "a frame is larger than the picture";
            return Err(ImageError::corrupt(self.format, reason));
        }
        // The decoder checks as well: it must not exceed what the header announces.
        let mut allowed = Limits::default();
        allowed.max_alloc = Some(memory(self.format, &decoder));
        allowed.max_image_width = Some(width);
        allowed.max_image_height = Some(height);
        allowed.reserve(decoder.total_bytes()).map_err(failed)?;
        decoder.set_limits(allowed).map_err(failed)?;

        let orientation = orientation(&mut decoder);
        Ok(upright(
            colour::decode(decoder).map_err(failed)?,
            orientation,
        ))
    }

    fn open(&self, limits: ImageLimits) -> Result<Decoder<'_>, ImageError> {
        let decoder: Box<dyn ImageDecoder> = match self.read_header() {
            Err(image::ImageError::Unsupported(_)) if self.format == ImageFormat::Tiff => {
                return Ok(Decoder::TiffMode);
            }
            decoder => decoder.map_err(|e| ImageError::from_decoder(self.format, &e))?,
        };
        limits.check(self.format, decoder.dimensions())?;
        Ok(Decoder::Common(decoder))
    }

    /// The decoder's limits are those of a header; pixels come after this picture's own are set.
    fn read_header(&self) -> image::ImageResult<Box<dyn ImageDecoder + '_>> {
        let file = Cursor::new(self.bytes);
        if self.format == ImageFormat::Png {
            return Ok(Box::new(PngDecoder::new(file, DECODER_OVERHEAD as usize)?));
        }
        let mut reader = ImageReader::with_format(file, self.format);
        let mut header = Limits::default();
        header.max_alloc = Some(DECODER_OVERHEAD);
        reader.limits(header);
        Ok(Box::new(reader.into_decoder()?))
    }
}

/// Width and height of a picture as a person sees it, by its header.
///
/// # Errors
/// A header that can't be read.
pub fn size(bytes: &[u8]) -> Result<(u32, u32), ImageError> {
    let any = ImageLimits {
        max_side: u32::MAX,
        max_pixels: u64::MAX,
        memory: u64::MAX,
    };
    let file = File::new(bytes)?;
    match file.open(any)? {
        Decoder::Common(mut decoder) => {
            let (width, height) = decoder.dimensions();
            Ok(match orientation(&mut decoder) {
                Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH => (height, width),
                _ => (width, height),
            })
        }
        Decoder::TiffMode => Ok(file.decode(any)?.dimensions()),
    }
}

/// An upper bound of what decoding takes, in bytes: the decoder's own buffers, its pixels, and those
/// that they become.
fn memory(format: ImageFormat, decoder: &impl ImageDecoder) -> u64 {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    // Whole pictures that the decoders hold beside what they give: coefficients, frames, strips.
    let inside = match format {
        // Three coefficients of 16 bits; one that is not progressive needs a few rows.
        ImageFormat::Jpeg => 6 * pixels,
        ImageFormat::WebP | ImageFormat::Gif => 4 * pixels,
        ImageFormat::Tiff => decoder.total_bytes(),
        _ => 0,
    };
    let decoded = decoder.total_bytes() + inside.max(colour::beside(decoder.color_type()) * pixels);
    // Turning takes the picture twice.
    decoded.max(2 * 3 * pixels) + DECODER_OVERHEAD
}

fn upright(image: RgbImage, orientation: Orientation) -> RgbImage {
    let mut image = DynamicImage::ImageRgb8(image);
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
