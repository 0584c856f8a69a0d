//! Against Pillow: see `tests/goldens/pixels/README.md`.

use std::collections::BTreeMap;

use image::RgbImage;
use paligemma_server::pixels::resize_bicubic;

use super::{golden, preprocessor};

#[derive(serde::Deserialize)]
struct Manifest {
    stored_side: u32,
    images: Vec<Golden>,
    patterns: Vec<Pattern>,
}

#[derive(serde::Deserialize)]
struct Golden {
    file: String,
    width: u32,
    height: u32,
    jpeg: bool,
    blake3: BTreeMap<u32, String>,
}

#[derive(serde::Deserialize)]
struct Pattern {
    width: u32,
    height: u32,
    blake3: BTreeMap<u32, String>,
}

fn manifest() -> Manifest {
    serde_json::from_slice(&golden("manifest.json")).expect("the manifest's shape")
}

/// The formula of `pattern` in `make_pixel_goldens.py`.
fn pattern(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([0, 1, 2].map(|c: u32| {
            let noise = x.wrapping_mul(73_856_093)
                ^ y.wrapping_mul(19_349_663)
                ^ c.wrapping_mul(83_492_791);
            let noise = ((noise ^ (noise >> 13)).wrapping_mul(0x5BD1_E995) >> 15) & 31;
            let slopes = x * (c + 1) * 97 / width + y * (3 - c) * 89 / height;
            let blocks = (((x / 37) ^ (y / 23)) & 1) * 80;
            (slopes + blocks + noise) as u8
        }))
    })
}

#[test]
fn resizing_gives_the_bytes_that_pillow_gives() {
    let patterns = manifest().patterns;
    assert!(patterns.len() >= 12);
    for golden in patterns {
        let image = pattern(golden.width, golden.height);
        for (side, hash) in golden.blake3 {
            let resized = resize_bicubic(image.clone(), side);
            assert_eq!(
                blake3::hash(&resized).to_hex().as_str(),
                hash,
                "{} x {} to {side}",
                golden.width,
                golden.height
            );
        }
    }
}

#[test]
fn lossless_files_decode_to_the_bytes_that_pillow_gives() {
    let Manifest {
        stored_side,
        images,
        ..
    } = manifest();
    let mut wrong = Vec::new();
    for image in images.iter().filter(|image| !image.jpeg) {
        let bytes = golden(&format!("images/{}", image.file));
        for (&side, hash) in &image.blake3 {
            let pixels = match preprocessor(side).prepare_blocking(&bytes) {
                Ok(pixels) => pixels,
                Err(e) => {
                    wrong.push(format!("{} at {side}: {e}", image.file));
                    continue;
                }
            };
            assert_eq!((pixels.width, pixels.height), (image.width, image.height));
            assert_eq!(pixels.side, side);
            assert_eq!(pixels.hash, *blake3::hash(&pixels.data).as_bytes());
            if side == stored_side {
                let expected = golden(&format!("expected/{}.rgb", image.file));
                let (most, mean) = difference(&pixels.data, &expected);
                if most > 0 {
                    wrong.push(format!("{}: off by up to {most}, mean {mean}", image.file));
                }
            } else if blake3::Hash::from_bytes(pixels.hash).to_hex().as_str() != hash {
                wrong.push(format!("{} at {side}: other bytes", image.file));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn jpegs_differ_from_pillow_by_no_more_than_rounding() {
    let Manifest {
        stored_side: side,
        images,
        ..
    } = manifest();
    for image in images.iter().filter(|image| image.jpeg) {
        let bytes = golden(&format!("images/{}", image.file));
        let expected = golden(&format!("expected/{}.rgb", image.file));
        let pixels = preprocessor(side).prepare_blocking(&bytes).unwrap();
        assert_eq!((pixels.width, pixels.height), (image.width, image.height));
        let (most, mean) = difference(&pixels.data, &expected);
        // Measured: at most 4 and 0.44, both on pure noise with halved chroma; on the photo 1 and 0.03.
        assert!(most <= 4 && mean < 0.5, "{}: {most}, {mean}", image.file);
    }
}

/// The largest and the mean absolute difference of two images' samples.
fn difference(a: &[u8], b: &[u8]) -> (u8, f64) {
    assert_eq!(a.len(), b.len());
    let differences = || a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    let total: f64 = differences().map(f64::from).sum();
    (differences().max().unwrap_or(0), total / a.len() as f64)
}
