//! From bytes to the model's square.

use std::path::Path;

use divan::Bencher;
use image::{Rgb, RgbImage};
use paligemma_server::pixels::{ImageLimits, Preprocessor, resize_bicubic};

/// An image of noise, which has no runs that something could skip.
fn noise(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let mixed = (x ^ y.rotate_left(16))
            .wrapping_mul(0x9e37_79b9)
            .to_le_bytes();
        Rgb([mixed[1], mixed[2], mixed[3]])
    })
}

/// A photo of 12 megapixels, a screen and a thumbnail, to the sides that PaliGemma has.
#[divan::bench(args = [(4000, 3000, 224), (4000, 3000, 896), (1280, 720, 448), (160, 120, 224)])]
fn resize(bencher: Bencher, (width, height, side): (u32, u32, u32)) {
    let image = noise(width, height);
    bencher
        .with_inputs(|| image.clone())
        .bench_values(|image| resize_bicubic(image, side));
}

/// Decoding, orientation, resizing and hashing of a file.
#[divan::bench(args = ["noisy.png", "circle-and-square.jpg", "tall.webp"])]
fn prepare(bencher: Bencher, file: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/images");
    let bytes = std::fs::read(folder.join(file)).unwrap();
    let limits = ImageLimits {
        max_side: 8192,
        max_pixels: 100_000_000,
        memory: 1 << 30,
    };
    let preprocessor = Preprocessor::new(224, limits, 1);
    bencher.bench(|| preprocessor.prepare_blocking(&bytes).unwrap());
}
