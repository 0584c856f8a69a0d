//! What a file is, told from its first bytes and never from its name.

use image::ImageFormat;

use super::ImageError;

/// The format of `bytes`, if it is one that is decoded here.
///
/// # Errors
/// [`ImageError::Empty`], or what the bytes look like instead.
pub(super) fn sniff(bytes: &[u8]) -> Result<ImageFormat, ImageError> {
    if bytes.is_empty() {
        return Err(ImageError::Empty);
    }
    match image::guess_format(bytes) {
        Ok(ImageFormat::Bmp) if !is_bmp(bytes) => {}
        Ok(format) if format.reading_enabled() => return Ok(format),
        _ => {}
    }
    if let Some(found) = other_image(bytes) {
        return Err(ImageError::UnsupportedFormat { found });
    }
    Err(ImageError::NotAnImage {
        looks_like: looks_like(bytes),
    })
}

/// "BM" alone is too weak a signature: plain text may start with it. The size of the second header
/// has only a few values.
fn is_bmp(bytes: &[u8]) -> bool {
    let header_size = bytes.get(14..18).and_then(|b| <[u8; 4]>::try_from(b).ok());
    matches!(
        header_size.map(u32::from_le_bytes),
        Some(12 | 16 | 40 | 52 | 56 | 64 | 108 | 124)
    )
}

/// Image formats that people send and that are not decoded here.
fn other_image(bytes: &[u8]) -> Option<&'static str> {
    const SIGNATURES: [(&[u8], &str); 8] = [
        (b"\x00\x00\x01\x00", "a Windows icon (ICO)"),
        (b"8BPS", "a Photoshop document (PSD)"),
        (b"\xFF\x0A", "a JPEG XL image"),
        (b"\0\0\0\x0CJXL \r\n\x87\n", "a JPEG XL image"),
        (b"\0\0\0\x0CjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"qoif", "a QOI image"),
        (b"DDS ", "a DirectDraw Surface (DDS)"),
        (b"\x76\x2F\x31\x01", "an OpenEXR image"),
    ];
    if bytes.get(4..8) == Some(b"ftyp") {
        return match bytes.get(8..12)? {
            b"avif" | b"avis" => Some("an AVIF image"),
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => {
                Some("a HEIC image (the iPhone's format)")
            }
            _ => None,
        };
    }
    SIGNATURES
        .iter()
        .find(|(signature, _)| bytes.starts_with(signature))
        .map(|&(_, name)| name)
}

/// A description, with its article, of bytes that are no image.
fn looks_like(bytes: &[u8]) -> &'static str {
    const SIGNATURES: [(&[u8], &str); 5] = [
        (b"%PDF", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive or an Office document"),
        (b"\x1F\x8B", "gzip-compressed data"),
        (b"\x1A\x45\xDF\xA3", "a Matroska or WebM video"),
        (b"data:", "a data: URL that was not decoded"),
    ];
    if let Some(&(_, name)) = SIGNATURES.iter().find(|(s, _)| bytes.starts_with(s)) {
        return name;
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return "an MP4 or QuickTime video";
    }
    let Some(text) = text_start(bytes) else {
        return "binary data of an unknown kind";
    };
    let text = text.trim_start_matches('\u{FEFF}').trim_start();
    let starts_with = |tag: &str| {
        text.get(..tag.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(tag))
    };
    if starts_with("<svg") || (starts_with("<?xml") && text.contains("<svg")) {
        "an SVG drawing"
    } else if starts_with("<!doctype html") || starts_with("<html") {
        "an HTML page"
    } else if starts_with("<?xml") {
        "an XML document"
    } else if starts_with("{") || starts_with("[") {
        "JSON"
    } else {
        "text"
    }
}

/// The first kilobyte as text, unless it is not UTF-8 or has control characters that text lacks.
fn text_start(bytes: &[u8]) -> Option<&str> {
    let head = &bytes[..bytes.len().min(1024)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The cut at one kilobyte may fall into a character.
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&head[..e.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\x0C');
    (!text.is_empty() && !text.contains(control)).then_some(text)
}
