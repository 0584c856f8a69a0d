//! What is refused, with which code and words.

use std::time::{Duration, Instant};

use paligemma_server::pixels::{ImageError, ImageLimits, Pixels, Preprocessor};

use super::{LIMITS, golden, preprocessor};

fn prepare(bytes: &[u8]) -> Result<Pixels, ImageError> {
    preprocessor(56).prepare_blocking(bytes)
}

fn refusal(bytes: &[u8]) -> (&'static str, String) {
    let error = prepare(bytes).expect_err("this must not pass for an image");
    (error.code(), error.to_string())
}

#[test]
fn a_file_that_is_not_an_image_is_named_for_what_it_is() {
    let (code, message) = refusal(b"");
    assert_eq!(code, "image_empty");
    assert!(message.contains("0 bytes"));
    let cases: [(&[u8], &str); 11] = [
        (b"a plain caf\xC3\xA9", "text"),
        (b"BM is how this text starts, and it goes on", "text"),
        (b"%PDF-1.7\n%\xE2\xE3", "a PDF document"),
        (b"\n <!DOCTYPE html><html>", "an HTML page"),
        (b"<HTML><body>", "an HTML page"),
        (b"<?xml version=\"1.0\"?><svg xmlns=\"\">", "an SVG drawing"),
        (b"{\"image\": 1}", "JSON"),
        (b"data:image/png;base64,iVBORw0KGgo", "a data: URL"),
        (b"PK\x03\x04\x14\x00", "a ZIP archive"),
        (b"\0\0\0\x20ftypisom\0\0\x02\0", "an MP4 or QuickTime video"),
        (b"\0\x01\x02\x03\xFE\xFF", "binary data"),
    ];
    for (bytes, name) in cases {
        let (code, message) = refusal(bytes);
        assert_eq!(code, "not_an_image", "{message}");
        assert!(message.contains(name), "{message}");
        assert!(message.contains("JPEG, PNG, WebP, GIF, BMP or TIFF"));
    }
}

#[test]
fn a_foreign_image_format_is_named_with_what_to_convert_it_to() {
    let cases: [(&[u8], &str); 4] = [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", "AVIF"),
        (b"\xFF\x0A\x00\x10", "JPEG XL"),
        (b"8BPS\0\x01\0\0", "Photoshop"),
    ];
    for (bytes, name) in cases {
        let (code, message) = refusal(bytes);
        assert_eq!(code, "unsupported_image");
        assert!(message.contains(name), "{message}");
        assert!(message.contains("convert it to JPEG or PNG"), "{message}");
    }
}

/// Files of every format with `bytes` written over them from `at` on: a header that says 60,000
/// pixels a side, or as many as the format can.
fn huge_headers() -> Vec<(&'static str, Vec<u8>)> {
    let overwritten = |file: &'static str, at: usize, bytes: &[u8]| {
        let mut data = golden(&format!("images/{file}"));
        data[at..at + bytes.len()].copy_from_slice(bytes);
        (file, data)
    };
    let side = 60_000u32;
    let mut png = overwritten(
        "rgb.png",
        16,
        &[side.to_be_bytes(), side.to_be_bytes()].concat(),
    );
    let checksum = crc32(&png.1[12..29]);
    png.1[29..33].copy_from_slice(&checksum.to_be_bytes());

    let jpeg = golden("images/rgb_444.jpg");
    let frame = jpeg
        .windows(2)
        .position(|marker| marker == [0xFF, 0xC0])
        .unwrap();
    let webp = golden("images/lossy.webp");
    let key_frame = webp
        .windows(3)
        .position(|tag| tag == [0x9D, 0x01, 0x2A])
        .unwrap();
    let half = (side as u16).to_be_bytes();
    vec![
        png,
        overwritten("palette.gif", 6, &[0x60, 0xEA, 0x60, 0xEA]),
        overwritten("rgb_444.jpg", frame + 5, &[half, half].concat()),
        overwritten("lossy.webp", key_frame + 3, &[0xFF, 0x3F, 0xFF, 0x3F]),
        overwritten("lossy_alpha.webp", 24, &[0x5F, 0xEA, 0, 0x5F, 0xEA, 0]),
        overwritten("rgb.bmp", 18, &[0x60, 0xEA, 0, 0, 0x60, 0xEA, 0, 0]),
        huge_tiff(),
    ]
}

/// The TIFF with its width, height and rows of a strip (tags 0x100, 0x101 and 0x116,
/// little-endian) set to 60,000.
fn huge_tiff() -> (&'static str, Vec<u8>) {
    let mut data = golden("images/rgb_raw.tiff");
    let directory = u32::from_le_bytes(data[4..8].try_into().unwrap()) as usize;
    let entries = usize::from(u16::from_le_bytes([data[directory], data[directory + 1]]));
    for entry in data[directory + 2..].chunks_exact_mut(12).take(entries) {
        if matches!(entry[..2], [0x00 | 0x01 | 0x16, 0x01]) {
            entry[2..4].copy_from_slice(&[4, 0]);
            entry[8..].copy_from_slice(&60_000u32.to_le_bytes());
        }
    }
    ("rgb_raw.tiff", data)
}

/// A TIFF of the largest allowed size that says of itself to have 65,535 samples a pixel: its own
/// word must not raise the limit of memory.
#[test]
fn a_tiff_with_too_many_samples_is_refused_before_memory_is_allocated() {
    let mut data = golden("images/grey_alpha.tiff");
    let directory = u32::from_le_bytes(data[4..8].try_into().unwrap()) as usize;
    let entries = usize::from(u16::from_le_bytes([data[directory], data[directory + 1]]));
    for entry in data[directory + 2..].chunks_exact_mut(12).take(entries) {
        match u16::from_le_bytes([entry[0], entry[1]]) {
            0x100 | 0x101 | 0x116 => entry[8..].copy_from_slice(&4_000u32.to_le_bytes()),
            // One bit depth for all samples.
            0x102 => entry[4..].copy_from_slice(&[1, 0, 0, 0, 8, 0, 0, 0]),
            0x115 => entry[8..10].copy_from_slice(&u16::MAX.to_le_bytes()),
            // Not a word of what they are: a tag that nobody knows.
            0x152 => entry[..2].copy_from_slice(&0xFDE8u16.to_le_bytes()),
            _ => {}
        }
    }
    let (code, message) = refusal(&data);
    assert_eq!(code, "unsupported_image", "{message}");
}

/// The checksum of PNG chunks (ISO 3309, reflected polynomial 0xEDB88320).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_huge_picture_is_refused_from_its_header_in_every_format() {
    for (file, bytes) in huge_headers() {
        let start = Instant::now();
        let error = prepare(&bytes).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(5), "{file}");
        let ImageError::TooLarge { width, height, .. } = error else {
            panic!("{file}: {error}");
        };
        assert!(width >= 16_383 && height >= 16_383, "{file}");
        assert_eq!(error.code(), "image_too_large");
        assert!(error.to_string().contains("8192 pixels a side"), "{error}");
        assert!(error.to_string().contains("16000000 pixels"), "{error}");
    }
}

#[test]
fn each_limit_is_exact_to_the_pixel() {
    let bytes = golden("images/rgb.png");
    let prepare = |max_side, max_pixels| {
        let limits = ImageLimits {
            max_side,
            max_pixels,
            ..LIMITS
        };
        Preprocessor::new(56, limits, 1).prepare_blocking(&bytes)
    };
    assert!(prepare(61, 61 * 47).is_ok());
    assert_eq!(prepare(60, 61 * 47).unwrap_err().code(), "image_too_large");
    assert_eq!(
        prepare(61, 61 * 47 - 1).unwrap_err().code(),
        "image_too_large"
    );
}

#[test]
fn a_picture_that_takes_more_than_all_memory_is_refused_by_its_header() {
    let limits = ImageLimits {
        memory: 1 << 20,
        ..LIMITS
    };
    let error = Preprocessor::new(56, limits, 1)
        .prepare_blocking(&golden("images/rgb.png"))
        .unwrap_err();
    assert_eq!(error.code(), "image_too_large");
    assert!(
        error.to_string().contains("1 MB is all that there is"),
        "{error}"
    );
}

#[test]
fn a_webp_whose_frame_is_larger_than_the_picture_is_refused_before_it_has_memory() {
    let mut file = golden("images/lossy_alpha.webp");
    let start_code = b"\x9D\x01\x2A";
    let at = file.windows(3).position(|bytes| bytes == start_code);
    let size = at.expect("a lossy frame") + start_code.len();
    file[size..size + 4].copy_from_slice(&[0xFF, 0x3F, 0xFF, 0x3F]);
    let (code, message) = refusal(&file);
    assert_eq!(code, "image_corrupt");
    assert!(
        message.contains("a frame is larger than the picture"),
        "{message}"
    );
}

#[test]
fn a_decoders_words_stand_in_one_line() {
    let (code, message) = refusal(b"\xFF\xD8\xFF\xE0\x00\x10JF");
    assert_eq!(code, "image_corrupt");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn a_truncated_file_is_an_error_and_never_half_a_picture() {
    let mut accepted = Vec::new();
    // Of an animation only the first frame is read, so what is cut behind it is not missed.
    let stills = image_files().into_iter();
    for file in stills.filter(|file| !file.starts_with("animated")) {
        let bytes = golden(&format!("images/{file}"));
        for percent in [20, 50, 80, 95] {
            let cut = &bytes[..bytes.len() * percent / 100];
            // At 95 %, the single pixel is complete and only the PNG's last chunk is missing.
            if prepare(cut).is_ok() && (file != "one_pixel.png" || percent != 95) {
                accepted.push(format!("{file} cut to {percent} %"));
            }
        }
    }
    assert!(accepted.is_empty(), "{accepted:#?}");
    let jpeg = golden("images/progressive.jpg");
    let (code, message) = refusal(&jpeg[..jpeg.len() - 1]);
    assert_eq!(code, "image_corrupt");
    assert!(message.contains("end marker"), "{message}");
}

#[test]
fn an_unsupported_kind_of_tiff_is_refused_with_what_to_convert_it_to() {
    for (file, reason) in [
        ("lab.tiff", "kind of TIFF"),
        ("palette.tiff", "its colours are in a palette"),
        ("palette_lzw_turned.tiff", "its colours are in a palette"),
        ("palette_alpha.tiff", "its colours are in a palette"),
    ] {
        let (code, message) = refusal(&golden(&format!("refused/{file}")));
        assert_eq!(code, "unsupported_image", "{message}");
        assert!(message.contains(reason), "{message}");
        assert!(message.contains("convert it to JPEG or PNG"), "{message}");
    }
}

fn image_files() -> Vec<String> {
    let manifest: serde_json::Value = serde_json::from_slice(&golden("manifest.json")).unwrap();
    let images = manifest["images"].as_array().unwrap();
    let names = images.iter().map(|image| image["file"].as_str().unwrap());
    names.map(str::to_owned).collect()
}

#[tokio::test]
async fn all_waiting_pictures_are_prepared_even_if_some_senders_leave() {
    let preprocessor = preprocessor(56);
    let bytes = bytes::Bytes::from(golden("images/rgb_420.jpg"));
    let expected = preprocessor.prepare_blocking(&bytes).unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (preprocessor, bytes) = (preprocessor.clone(), bytes.clone());
            tokio::spawn(async move { preprocessor.prepare(bytes).await })
        })
        .collect();
    tokio::task::yield_now().await;
    for (index, task) in tasks.into_iter().enumerate() {
        if index % 3 == 0 {
            task.abort();
        } else {
            let pixels = tokio::time::timeout(Duration::from_secs(60), task).await;
            assert_eq!(pixels.expect("no lost place").unwrap().unwrap(), expected);
        }
    }
}
