//! Whether a TIFF's tags are as long as they may be.
//!
//! The decoder takes memory for a tag's values by the count that stands before them: a file of 257 bytes could
//! take 100 MB.

use super::ImageError;
use image::ImageFormat;

/// Tags that the decoder reads, and how many values each may have: some per sample; offsets and lengths of
/// strips and tiles, of which the largest picture has fewer; the tables of JPEG; a palette.
fn most_values(tag: u16) -> Option<u64> {
    match tag {
        254..=259 | 262 | 274 | 277 | 278 | 284 | 317 | 322 | 323 | 330 | 338..=341 | 529..=532 => {
            Some(1_000)
        }
        273 | 279 | 324 | 325 => Some(300_000),
        320 => Some(3 << 16),
        347 => Some(1 << 20),
        _ => None,
    }
}

/// Checks the counts in the first directory, which is the one that is decoded.
///
/// # Errors
/// When a tag claims more values than its kind may have.
pub(super) fn check(file: &[u8]) -> Result<(), ImageError> {
    for (tag, count) in first_directory(file).unwrap_or_default() {
        if most_values(tag).is_some_and(|most| count > most) {
            let reason = format!("its tag {tag} claims {count} values");
            return Err(ImageError::corrupt(ImageFormat::Tiff, reason));
        }
    }
    Ok(())
}

/// The tags of the first directory with their counts, as far as it is there; `None` for what is no TIFF.
fn first_directory(file: &[u8]) -> Option<Vec<(u16, u64)>> {
    let little = match file.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let number = |at: u64, bytes: usize| -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let bytes = file.get(at..at.checked_add(bytes)?)?.iter();
        let join = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(match little {
            true => bytes.rev().fold(0, join),
            false => bytes.fold(0, join),
        })
    };
    // BigTIFF (43) has counts and offsets of eight bytes.
    let (offset, entries, head, entry, count) = match number(2, 2)? {
        42 => (number(4, 4)?, 2, 2, 12, 4),
        43 => (number(8, 8)?, 8, 8, 20, 8),
        _ => return None,
    };
    let entries = number(offset, entries)?.min(u64::from(u16::MAX));
    let mut tags = Vec::new();
    for index in 0..entries {
        let at = offset.checked_add(head + index * entry)?;
        let (Some(tag), Some(count)) = (number(at, 2), number(at + 4, count)) else {
            break;
        };
        tags.push((u16::try_from(tag).ok()?, count));
    }
    Some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with one tag of that count, in either byte order, as TIFF or BigTIFF.
    fn file(little: bool, big: bool, tag: u16, count: u64) -> Vec<u8> {
        let number = |value: u64, bytes: usize| -> Vec<u8> {
            match little {
                true => value.to_le_bytes()[..bytes].to_vec(),
                false => value.to_be_bytes()[8 - bytes..].to_vec(),
            }
        };
        let order = if little { b"II" } else { b"MM" };
        let head = match big {
            true => [
                number(43, 2),
                number(8, 2),
                number(0, 2),
                number(16, 8),
                number(1, 8),
            ],
            false => [number(42, 2), number(8, 4), number(1, 2), vec![], vec![]],
        };
        let count = number(count, if big { 8 } else { 4 });
        let entry = [number(u64::from(tag), 2), number(3, 2), count, vec![0; 8]];
        [order.to_vec(), head.concat(), entry.concat()].concat()
    }

    #[test]
    fn a_tag_that_claims_too_many_values_is_refused_in_every_layout() {
        for (little, big) in [(true, false), (false, false), (true, true), (false, true)] {
            let counts = |tag, count| check(&file(little, big, tag, count));
            assert!(counts(258, 3).is_ok(), "{little} {big}");
            let error = counts(258, 70_000).unwrap_err();
            assert!(error.to_string().contains("70000 values"), "{error}");
            assert!(counts(273, 70_000).is_ok());
            assert!(counts(273, 1 << 31).is_err());
            // A profile, which is not read.
            assert!(counts(34_675, 1 << 20).is_ok());
        }
    }

    #[test]
    fn what_is_no_directory_is_left_to_the_decoder() {
        for file in [
            &b""[..],
            b"II",
            b"II*\0\xff\xff\xff\xff",
            b"MM\0+\0\x08",
            b"PNG",
        ] {
            assert!(check(file).is_ok());
        }
    }
}
