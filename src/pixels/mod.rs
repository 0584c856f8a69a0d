//! Bytes to pixels: decoding, orientation, colour, and Pillow's resizing, to the byte.

mod colour;
mod decode;
mod decode_memory;
mod error;
mod format;
mod jpeg;
mod limits;
pub mod mask;
mod png;
mod preprocess;
mod resize;
mod tiff_modes;
mod tiff_tags;
mod webp;

pub use decode::size;
pub use error::ImageError;
pub use limits::ImageLimits;
pub use preprocess::Preprocessor;
pub use resize::resize_bicubic;

/// One image, ready for the vision tower.
///
/// Cheap to share (`Arc<Pixels>`); the normalisation to `[-1, 1]` happens on the model's device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// RGB bytes, row by row, `side × side × 3`: the picture squashed to the model's square.
    pub data: Vec<u8>,
    /// Width and height of `data` in pixels; the model's `image_size`.
    pub side: u32,
    /// Width in pixels of the picture as a person sees it (after EXIF orientation).
    pub width: u32,
    /// Height in pixels of the picture as a person sees it (after EXIF orientation).
    pub height: u32,
    /// BLAKE3 of `data`: the key under which the image's features are cached.
    pub hash: [u8; 32],
}
