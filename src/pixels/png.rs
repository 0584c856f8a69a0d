//! A PNG without what says nothing about its pixels.
//!
//! Colour profiles and texts are compressed, and a decoder inflates them while it reads the header: a
//! file of a megabyte could take gigabytes. None of them is used here, so the decoder never sees them.

use std::borrow::Cow;

const SIGNATURE: usize = 8;
/// Length, type and checksum of a chunk.
const FRAME: usize = 12;
/// The pixels, transparency, and how the picture is to be turned, which is not compressed.
const KEPT: [&[u8; 4]; 6] = [b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"];

/// The file's signature and those chunks that are kept; the whole file when it has no others. What
/// doesn't parse as a chunk is left for the decoder to refuse.
pub(super) fn without_metadata(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut kept = Vec::new();
    let mut whole = true;
    let mut at = SIGNATURE;
    while let Some(chunk) = chunk(bytes, at) {
        if KEPT.iter().any(|kind| chunk[4..8] == kind[..]) {
            kept.push(chunk);
        } else {
            whole = false;
        }
        at += chunk.len();
    }
    if whole {
        return Cow::Borrowed(bytes);
    }
    let mut file = Vec::with_capacity(bytes.len());
    file.extend_from_slice(&bytes[..SIGNATURE]);
    kept.into_iter()
        .for_each(|chunk| file.extend_from_slice(chunk));
    file.extend_from_slice(&bytes[at.min(bytes.len())..]);
    Cow::Owned(file)
}

/// The chunk that begins there, from its length to its checksum, if it is all there.
fn chunk(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = bytes.get(at..at + 4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let end = at.checked_add(FRAME)?.checked_add(length as usize)?;
    bytes.get(at..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, data) in chunks {
            file.extend((data.len() as u32).to_be_bytes());
            file.extend_from_slice(&kind[..]);
            file.extend_from_slice(data);
            file.extend([0; 4]);
        }
        file
    }

    #[test]
    fn profiles_texts_and_animations_are_left_out() {
        let plain = file(&[
            (b"IHDR", &[0; 13]),
            (b"eXIf", b"II"),
            (b"IDAT", b"x"),
            (b"IEND", b""),
        ]);
        let full = file(&[
            (b"IHDR", &[0; 13]),
            (b"iCCP", b"profile"),
            (b"zTXt", b"text"),
            (b"eXIf", b"II"),
            (b"acTL", b"animated"),
            (b"IDAT", b"x"),
            (b"iTXt", b"text"),
            (b"IEND", b""),
        ]);
        assert_eq!(without_metadata(&full), plain);
        assert!(matches!(without_metadata(&plain), Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_cut_or_no_chunk_stays() {
        let full = file(&[
            (b"IHDR", &[0; 13]),
            (b"iCCP", b"profile"),
            (b"IDAT", b"pixels"),
        ]);
        let cut = &full[..full.len() - 6];
        assert!(without_metadata(cut).ends_with(&cut[cut.len() - 8..]));
        for end in 0..=SIGNATURE + FRAME {
            assert_eq!(without_metadata(&full[..end]), &full[..end]);
        }
    }
}
