//! Why bytes did not become pixels, in words for whoever sent them.

use image::ImageFormat;

/// What a sender can do about a picture that this server does not read.
const READABLE: &str = "a JPEG, PNG, WebP, GIF, BMP or TIFF file";

/// Bytes that could not be turned into [`super::Pixels`].
///
/// Every message says what was found, what is allowed and what to do, and is fit for the sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// No bytes at all.
    #[error("the image is empty (0 bytes); send the bytes of {READABLE}")]
    Empty,
    /// Something that is not a picture.
    #[error("this is not an image: it looks like {looks_like}; send the bytes of {READABLE}")]
    NotAnImage {
        /// What the first bytes look like, with its article: "a PDF document".
        looks_like: &'static str,
    },
    /// A picture in a format that is not read here.
    #[error("this is {found}, which is not read here; convert it to JPEG or PNG")]
    UnsupportedFormat {
        /// The format, with its article: "a HEIC image".
        found: &'static str,
    },
    /// A readable format, in a variant that its decoder does not know.
    #[error(
        "this kind of {format} is not read here ({}); convert it to JPEG or PNG",
        one_line(reason)
    )]
    UnsupportedVariant {
        /// The file format, such as "TIFF".
        format: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// More pixels than the operator allows; found in the header, before decoding.
    #[error(
        "the image is {width} x {height} pixels; at most {max_side} pixels a side and {max_pixels} pixels in all \
         are allowed; make it smaller"
    )]
    TooLarge {
        /// Width in the file's header, in pixels.
        width: u32,
        /// Height in the file's header, in pixels.
        height: u32,
        /// The most pixels along either side.
        max_side: u32,
        /// The most pixels in all.
        max_pixels: u64,
    },
    /// The pixel count is allowed, but in this format its pixels take more memory than there is.
    #[error(
        "decoding this image takes {} MB, and {} MB is all that there is for it; make it smaller, or save it as \
         JPEG or with 8 bits a colour", memory / 1_000_000, most / 1_000_000
    )]
    MoreThanAllMemory {
        /// Bytes that it takes.
        memory: u64,
        /// Bytes that there are.
        most: u64,
    },
    /// The pixel count is allowed, but the file asks its decoder for more memory than that explains.
    #[error("decoding this {format} takes more memory than its size allows; save it anew")]
    TooMuchMemory {
        /// The file format, such as "TIFF".
        format: &'static str,
    },
    /// The file is damaged, ends early, or contradicts itself.
    #[error(
        "the {format} is damaged or incomplete ({}); send the whole file, or save it anew",
        one_line(reason)
    )]
    Corrupt {
        /// The file format, such as "PNG".
        format: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// The runtime stopped before the picture was looked at.
    #[error("the server is shutting down; send the image again later")]
    ShuttingDown,
}

impl ImageError {
    /// A stable name for the kind of error, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "image_empty",
            Self::NotAnImage { .. } => "not_an_image",
            Self::UnsupportedFormat { .. } | Self::UnsupportedVariant { .. } => "unsupported_image",
            Self::TooLarge { .. } | Self::MoreThanAllMemory { .. } | Self::TooMuchMemory { .. } => {
                "image_too_large"
            }
            Self::Corrupt { .. } => "image_corrupt",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// A decoder's error, sorted by whose fault it is.
    pub(super) fn from_decoder(format: ImageFormat, error: &image::ImageError) -> Self {
        let name = format_name(format);
        match error {
            image::ImageError::Unsupported(e) => Self::UnsupportedVariant {
                format: name,
                reason: e.to_string(),
            },
            image::ImageError::Limits(_) => Self::TooMuchMemory { format: name },
            image::ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                Self::corrupt(format, "it ends too early")
            }
            other => Self::corrupt(format, other.to_string()),
        }
    }

    /// A damaged file.
    pub(super) fn corrupt(format: ImageFormat, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            format: format_name(format),
            reason: reason.into(),
        }
    }
}

/// A decoder's words, some of which have line breaks.
fn one_line(reason: &str) -> String {
    reason.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The format's usual name: the upper-case extension, but for WebP.
fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        // Only the six above are ever decoded.
        _ => "image",
    }
}
