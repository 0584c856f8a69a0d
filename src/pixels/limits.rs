//! How large a picture may be.

use image::ImageFormat;

use super::ImageError;

/// The largest picture that is decoded; checked in the file's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Pixels along either side.
    pub max_side: u32,
    /// Width times height.
    pub max_pixels: u64,
    /// Bytes that all pictures that are being decoded may take together.
    pub memory: u64,
}

impl ImageLimits {
    /// Checks the width and height in the header of a file.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`] if either is 0, [`ImageError::TooLarge`] if a side or the area is
    /// over the limit.
    pub(super) fn check(
        self,
        format: ImageFormat,
        (width, height): (u32, u32),
    ) -> Result<(), ImageError> {
        if width == 0 || height == 0 {
            let reason = format!("its header says {width} x {height} pixels");
            return Err(ImageError::corrupt(format, reason));
        }
        let area = u64::from(width) * u64::from(height);
        if width > self.max_side || height > self.max_side || area > self.max_pixels {
            return Err(ImageError::TooLarge {
                width,
                height,
                max_side: self.max_side,
                max_pixels: self.max_pixels,
            });
        }
        Ok(())
    }
}
