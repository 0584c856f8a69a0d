//! Weights that are not finite: one of them makes every answer empty, so they are found while they
//! are read.

use candle_core::DType;
use rayon::prelude::*;

/// Numbers that one core looks at in a row.
const CHUNK: usize = 1 << 18;

/// The index of a number in `bytes` that is NaN or infinite, if there is one; of several, any. The
/// bytes are little-endian, as safetensors has them.
pub(super) fn not_finite(bytes: &[u8], dtype: DType) -> Option<usize> {
    // The exponent is all ones.
    match dtype {
        DType::BF16 => find(bytes, |number: [u8; 2]| {
            u16::from_le_bytes(number) & 0x7f80 == 0x7f80
        }),
        DType::F16 => find(bytes, |number: [u8; 2]| {
            u16::from_le_bytes(number) & 0x7c00 == 0x7c00
        }),
        DType::F32 => find(bytes, |number: [u8; 4]| {
            u32::from_le_bytes(number) & 0x7f80_0000 == 0x7f80_0000
        }),
        // It is read as f32, which has no room for the largest ones.
        DType::F64 => find(bytes, |number: [u8; 8]| {
            !(f64::from_le_bytes(number) as f32).is_finite()
        }),
        _ => None,
    }
}

fn find<const N: usize>(bytes: &[u8], is_bad: impl Fn([u8; N]) -> bool + Sync) -> Option<usize> {
    let (numbers, _) = bytes.as_chunks::<N>();
    let chunks = numbers.par_chunks(CHUNK).enumerate();
    chunks.find_map_any(|(chunk, numbers)| {
        // Nearly always there is none, and without a way out the loop is quicker.
        let any = numbers
            .iter()
            .fold(false, |any, &number| any | is_bad(number));
        let index = any.then(|| numbers.iter().position(|&number| is_bad(number)))??;
        Some(chunk * CHUNK + index)
    })
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    /// Where the only number is that is not finite, of many more than a chunk.
    const PLACE: usize = CHUNK + 7;

    fn found<const N: usize>(dtype: DType, largest: [u8; N], bad: [u8; N]) -> Option<usize> {
        let mut numbers: Vec<[u8; N]> = std::iter::repeat_n(largest, 2 * CHUNK).collect();
        assert_eq!(not_finite(numbers.as_flattened(), dtype), None);
        numbers[PLACE] = bad;
        not_finite(numbers.as_flattened(), dtype)
    }

    #[test]
    fn the_number_is_found_in_every_format() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let of = found(DType::F32, f32::MAX.to_le_bytes(), bad.to_le_bytes());
            assert_eq!(of, Some(PLACE), "f32 {bad}");
            let (largest, bits) = (bf16::MIN, bf16::from_f32(bad));
            let of = found(DType::BF16, largest.to_le_bytes(), bits.to_le_bytes());
            assert_eq!(of, Some(PLACE), "bf16 {bad}");
            let (largest, bits) = (f16::MIN, f16::from_f32(bad));
            let of = found(DType::F16, largest.to_le_bytes(), bits.to_le_bytes());
            assert_eq!(of, Some(PLACE), "f16 {bad}");
            let (largest, bad) = (f64::from(f32::MAX), f64::from(bad));
            let of = found(DType::F64, largest.to_le_bytes(), bad.to_le_bytes());
            assert_eq!(of, Some(PLACE), "f64 {bad}");
        }
    }

    #[test]
    fn a_number_that_f32_has_no_room_for_is_not_finite() {
        let of = found(DType::F64, 1.0f64.to_le_bytes(), 1e39f64.to_le_bytes());
        assert_eq!(of, Some(PLACE));
    }
}
