//! PNG with eight bits a sample, and without what says nothing about its pixels.
//!
//! The `image` crate's decoder keeps 16 bits a sample, of which only the high byte is used, and
//! inflates colour profiles and texts while it reads the header: a file of a megabyte could take
//! gigabytes. Here the `png` crate drops the low bytes row by row and skips that metadata.

use std::io::{BufRead, Seek};

use image::error::{
    DecodingError, ImageFormatHint, LimitError, LimitErrorKind, ParameterError, ParameterErrorKind,
    UnsupportedError, UnsupportedErrorKind,
};
use image::{ColorType, ExtendedColorType, ImageDecoder, ImageError, ImageFormat, ImageResult};
use png::{BitDepth, Limits, Reader, Transformations};

/// A decoder that has read the file's header.
pub(super) struct PngDecoder<R: BufRead + Seek> {
    reader: Reader<R>,
    color: ColorType,
}

impl<R: BufRead + Seek> PngDecoder<R> {
    /// Reads the header; the decoder may allocate `overhead` bytes beside the pixels.
    ///
    /// # Errors
    /// A damaged header, or one that asks for more memory.
    pub(super) fn new(file: R, overhead: usize) -> ImageResult<Self> {
        let mut decoder = png::Decoder::new_with_limits(file, Limits { bytes: overhead });
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
        let reader = decoder.read_info().map_err(error)?;
        let color = match reader.output_color_type() {
            (png::ColorType::Grayscale, BitDepth::Eight) => ColorType::L8,
            (png::ColorType::GrayscaleAlpha, BitDepth::Eight) => ColorType::La8,
            (png::ColorType::Rgb, BitDepth::Eight) => ColorType::Rgb8,
            (png::ColorType::Rgba, BitDepth::Eight) => ColorType::Rgba8,
            (_, depth) => return Err(unsupported(depth)),
        };
        Ok(Self { reader, color })
    }
}

impl<R: BufRead + Seek> ImageDecoder for PngDecoder<R> {
    fn dimensions(&self) -> (u32, u32) {
        self.reader.info().size()
    }

    fn color_type(&self) -> ColorType {
        self.color
    }

    fn exif_metadata(&mut self) -> ImageResult<Option<Vec<u8>>> {
        let exif = self.reader.info().exif_metadata.as_ref();
        Ok(exif.map(|exif| exif.to_vec()))
    }

    fn read_image(mut self, buffer: &mut [u8]) -> ImageResult<()> {
        self.reader.next_frame(buffer).map_err(error)?;
        Ok(())
    }

    fn read_image_boxed(self: Box<Self>, buffer: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(buffer)
    }
}

fn error(error: png::DecodingError) -> ImageError {
    use png::DecodingError::{Format, IoError, LimitsExceeded, Parameter};
    match error {
        IoError(error) => ImageError::IoError(error),
        LimitsExceeded => {
            ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory))
        }
        error @ Format(_) => {
            let format = ImageFormatHint::Exact(ImageFormat::Png);
            ImageError::Decoding(DecodingError::new(format, error))
        }
        error @ Parameter(_) => {
            let kind = ParameterErrorKind::Generic(error.to_string());
            ImageError::Parameter(ParameterError::from_kind(kind))
        }
    }
}

/// What the transformations leave has eight bits a sample, so no file comes here.
fn unsupported(depth: BitDepth) -> ImageError {
    ImageError::Unsupported(UnsupportedError::from_format_and_kind(
        ImageFormatHint::Exact(ImageFormat::Png),
        UnsupportedErrorKind::Color(ExtendedColorType::Unknown(depth as u8)),
    ))
}
