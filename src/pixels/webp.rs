//! Whether a WebP's frames are no larger than the picture.
//!
//! The decoder takes memory for a lossy frame by the frame's own header, before it compares that with the
//! file's: a file of a kilobyte could take 400 MB.

/// True when no lossy frame is wider or higher than the picture. Frames are found by how they begin,
/// wherever in the file, so the decoder finds no others.
pub(super) fn frames_fit(bytes: &[u8], (width, height): (u32, u32)) -> bool {
    let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3FFF);
    // The chunk's name and size, the frame's tag, the start code, and 14 bits each of width and height.
    bytes.windows(18).all(|start| match *start {
        [
            b'V',
            b'P',
            b'8',
            b' ',
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            0x9D,
            0x01,
            0x2A,
            w0,
            w1,
            h0,
            h1,
        ] => side(w0, w1) <= width && side(h0, h1) <= height,
        _ => true,
    })
}
