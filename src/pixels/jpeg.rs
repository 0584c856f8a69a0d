//! Whether a JPEG is all there.
//!
//! The decoder fills what is missing with grey and reports success. A caption of half a picture is
//! worse than an error, so, as in Pillow, a JPEG without its end marker is refused.

const END_OF_IMAGE: u8 = 0xD9;

/// True when the markers of `bytes`, from the first to the last, lead to an end-of-image marker.
/// Lengths of segments are followed, so a thumbnail's end marker in the metadata doesn't count.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    // Past the start-of-image marker, which the format was told by.
    let mut at = 2;
    while let Some((marker, after)) = next_marker(bytes, at) {
        at = match marker {
            END_OF_IMAGE => return true,
            // Stuffed zeros, TEM, restarts and starts have no length.
            0x00 | 0x01 | 0xD0..=0xD8 => after,
            _ => {
                let Some(&[high, low]) = bytes.get(after..after + 2) else {
                    return false;
                };
                after + usize::from(u16::from_be_bytes([high, low]))
            }
        };
    }
    false
}

/// The next marker at or after `at`, and the position behind it.
fn next_marker(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let mut rest = bytes.get(at..)?.iter().enumerate();
    rest.by_ref().find(|&(_, &byte)| byte == 0xFF)?;
    // Any number of 0xFF may stand before the marker's code.
    let (offset, &code) = rest.find(|&(_, &byte)| byte != 0xFF)?;
    Some((code, at + offset + 1))
}

#[cfg(test)]
mod tests {
    use super::has_end;

    /// Start, a metadata segment that holds a thumbnail's end marker, and the start of a scan.
    const START: &[u8] = b"\xFF\xD8\xFF\xE1\x00\x06\xFF\xD9\x01\x02\xFF\xDA\x00\x02";
    /// A scan's data with a stuffed zero, a restart marker and a fill byte.
    const SCAN: &[u8] = b"\x12\xFF\x00\xD9\x34\xFF\xD0\x56\xFF";

    #[test]
    fn a_thumbnails_end_marker_does_not_count() {
        assert!(!has_end(START));
        assert!(!has_end(&[START, SCAN].concat()));
    }

    #[test]
    fn the_end_marker_behind_the_scan_counts_whatever_follows_it() {
        assert!(has_end(&[START, SCAN, b"\xFF\xD9"].concat()));
        assert!(has_end(&[START, SCAN, b"\xFF\xD9trailing bytes"].concat()));
    }
}
