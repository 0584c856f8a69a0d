//! Whatever is sent, the answer is pixels or an error, never a panic.

use paligemma_server::pixels::{ImageLimits, Preprocessor};
use proptest::prelude::*;

use super::golden;

/// One small file for each decoder's paths.
const FILES: [&str; 14] = [
    "rgb_422.jpg",
    "progressive.jpg",
    "cmyk.jpg",
    "orientation_6.jpg",
    "palette_trns.png",
    "rgba_16bit.png",
    "transparent.gif",
    "animated.webp",
    "lossy_alpha.webp",
    "palette.bmp",
    "rgb_lzw.tiff",
    "bilevel_fax4.tiff",
    "cmyk.tiff",
    "grey_16bit.tiff",
];

/// Low, so that a size changed by chance stays cheap.
fn preprocessor() -> Preprocessor {
    let limits = ImageLimits {
        max_side: 1024,
        max_pixels: 300_000,
        memory: 1 << 30,
    };
    Preprocessor::new(28, limits, 1)
}

/// Pixels of the promised size, or an error with a code.
fn check(bytes: &[u8]) {
    match preprocessor().prepare_blocking(bytes) {
        Ok(pixels) => assert_eq!(pixels.data.len(), 28 * 28 * 3),
        Err(error) => assert!(!error.code().is_empty() && !error.to_string().is_empty()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        check(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_signature_are_answered(
        file in prop::sample::select(&FILES[..]),
        kept in 2usize..60,
        rest in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        check(&[&golden(&format!("images/{file}"))[..kept], &rest].concat());
    }

    #[test]
    fn a_damaged_file_is_answered(
        file in prop::sample::select(&FILES[..]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        in_header: bool,
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = golden(&format!("images/{file}"));
        let reach = if in_header { bytes.len().min(200) } else { bytes.len() };
        for (at, value) in damage {
            bytes[at.index(reach)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        check(&bytes);
    }
}
