//! Masks as Label Studio's brush paints them.

use super::Mask;

impl Mask {
    /// The mask in the run-length encoding of Label Studio's brush: the bits of RGBA pixels, row by row.
    /// `None` for a picture of more pixels than it can count.
    pub fn brush(&self) -> Option<Vec<u8>> {
        let values = u64::from(self.width) * u64::from(self.height) * 4;
        let mut bits = BrushBits::new(u32::try_from(values).ok()?);
        let (width, height) = self.inside.dimensions();
        let left = u64::from(self.x);
        let right = u64::from(self.width - self.x - width);
        let below = u64::from(self.height - self.y - height) * u64::from(self.width);
        bits.add(0, u64::from(self.y) * u64::from(self.width));
        for row in self.inside.rows() {
            bits.add(0, left);
            for pixel in row {
                bits.add(pixel.0[0], 1);
            }
            bits.add(0, right);
        }
        bits.add(0, below);
        Some(bits.finish())
    }
}

/// Writes Label Studio's brush masks: `rle-pack` of umbrella with words of 8 bits, and lengths of 3, 4,
/// 8 or 16 bits.
struct BrushBits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are in use.
    used: u32,
    value: u8,
    /// Of the run, in values: four for each pixel.
    length: u64,
}

impl BrushBits {
    const LENGTHS: [u32; 4] = [3, 4, 8, 16];

    fn new(values: u32) -> Self {
        let mut bits = Self {
            bytes: Vec::new(),
            used: 8,
            value: 0,
            length: 0,
        };
        bits.write(values, 32);
        bits.write(8 - 1, 5);
        for length in Self::LENGTHS {
            bits.write(length - 1, 4);
        }
        bits
    }

    /// Adds pixels of that value.
    fn add(&mut self, value: u8, pixels: u64) {
        if pixels > 0 && value != self.value {
            self.end_run();
            self.value = value;
        }
        self.length += pixels * 4;
    }

    fn end_run(&mut self) {
        while self.length > 0 {
            let part = self.length.min(1 << 16) as u32;
            let kind = Self::LENGTHS.iter().position(|bits| part <= 1 << bits);
            let kind = kind.unwrap_or(Self::LENGTHS.len() - 1);
            self.write(1, 1);
            self.write(kind as u32, 2);
            self.write(part - 1, Self::LENGTHS[kind]);
            self.write(self.value.into(), 8);
            self.length -= u64::from(part);
        }
    }

    /// The lowest `count` bits of `bits`, the highest of them first.
    fn write(&mut self, bits: u32, count: u32) {
        for place in (0..count).rev() {
            if self.used == 8 {
                self.bytes.push(0);
                self.used = 0;
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((bits >> place & 1) as u8) << (7 - self.used);
            }
            self.used += 1;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.end_run();
        self.bytes
    }
}
