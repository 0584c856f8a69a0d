//! Weights rounded to 8 and to 4 bits.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result, Tensor};
use half::f16;

use super::layout::GROUP;

/// 32 weights of 8 bits, each plus 128, and their scale; absent ones are 0.
///
/// As GGML's Q8_0, but for one thing: values are divided by the scale as it is stored, in half
/// precision.
pub fn quantize_q8(group: &[f32]) -> (f16, [u8; GROUP]) {
    let largest = group.iter().fold(0f32, |max, x| max.max(x.abs()));
    let scale = f16::from_f32(largest / 127.0);
    let inverse = match f32::from(scale) {
        0.0 => 0.0,
        scale => 1.0 / scale,
    };
    let mut values = [128; GROUP];
    for (value, x) in values.iter_mut().zip(group) {
        *value = (round(x * inverse).clamp(-127, 127) + 128) as u8;
    }
    (scale, values)
}

/// 32 weights of 4 bits: `value · scale - min`.
pub struct Q4Group {
    pub values: [u8; GROUP],
    pub scale: f16,
    pub min: f16,
}

/// Groups of a row, as candle quantises to GGML's Q4_K.
///
/// # Errors
/// When candle can't quantise it.
pub fn quantize_q4(row: &[f32]) -> Result<Vec<Q4Group>> {
    const SUPER_BLOCK: usize = 256;
    let padded = row.len().next_multiple_of(SUPER_BLOCK);
    let row = Tensor::from_slice(row, row.len(), &Device::Cpu)?.pad_with_zeros(
        0,
        0,
        padded - row.len(),
    )?;
    let blocks = QTensor::quantize(&row, GgmlDType::Q4K)?;
    let data = blocks.data()?;
    let bytes = GgmlDType::Q4K.type_size();
    Ok(data.chunks_exact(bytes).flat_map(q4_groups).collect())
}

/// The 8 groups of a block of Q4_K: two halves of precision, 12 bytes of packed scales and minima,
/// 128 bytes of values.
fn q4_groups(block: &[u8]) -> [Q4Group; 8] {
    let half = |at: usize| f32::from(f16::from_le_bytes([block[at], block[at + 1]]));
    let (scale_unit, min_unit) = (half(0), half(2));
    let (packed, values) = block[4..].split_at(12);
    std::array::from_fn(|i| {
        let (scale, min) = match i {
            0..4 => (packed[i] & 63, packed[i + 4] & 63),
            _ => (
                packed[i + 4] & 15 | packed[i - 4] >> 6 << 4,
                packed[i + 4] >> 4 | packed[i] >> 6 << 4,
            ),
        };
        let bytes = &values[i / 2 * GROUP..][..GROUP];
        Q4Group {
            values: std::array::from_fn(|k| bytes[k] >> (4 * (i % 2)) & 15),
            scale: f16::from_f32(scale_unit * f32::from(scale)),
            min: f16::from_f32(min_unit * f32::from(min)),
        }
    })
}

/// The nearest integer, halves to the even one, for values of less than 2^22.
#[inline(always)]
fn round(x: f32) -> i32 {
    // Adding 1.5 · 2^23 leaves the integer in the lowest bits.
    const SHIFT: f32 = 12_582_912.0;
    ((x + SHIFT).to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32)
}
