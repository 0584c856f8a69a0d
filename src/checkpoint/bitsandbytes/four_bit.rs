//! NF4 and FP4: codes of 4 bits with a scale for every block of values, which lie one after the other
//! whatever the weight's shape.

use candle_core::DType;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

use super::super::stored::StoredTensor;
use super::state::{Kind, State};
use super::{Beside, floats};

/// The names of the scales, of the codes' values, and of the same for scales that are codes themselves.
pub const PARTS: [&str; 4] = [SCALES, MAP, NESTED_SCALES, NESTED_MAP];
const SCALES: &str = "absmax";
const MAP: &str = "quant_map";
const NESTED_SCALES: &str = "nested_absmax";
const NESTED_MAP: &str = "nested_quant_map";

/// Values that one core computes in a row; whole blocks of any size.
const CHUNK: usize = 1 << 18;

/// What 4-bit codes mean.
#[derive(Debug)]
pub struct FourBit {
    pub kind: Kind,
    /// Values that share a scale.
    block: usize,
    /// What values are rounded to.
    dtype: DType,
    /// f32 `[16]`.
    map: StoredTensor,
    /// f32 `[blocks]`, or u8 if they are quantised.
    scales: StoredTensor,
    nested: Option<Nested>,
}

/// How scales are quantised ("double quantisation").
#[derive(Debug)]
struct Nested {
    /// Scales that share a scale.
    block: usize,
    offset: f32,
    /// f32 `[256]`.
    map: StoredTensor,
    /// f32, one for each block of scales.
    scales: StoredTensor,
}

impl FourBit {
    /// Of codes, two in a byte, and what lies beside them; also gives the weight's shape.
    pub fn new(
        codes: &StoredTensor,
        beside: &mut Beside<'_>,
    ) -> Result<(Self, Vec<usize>), String> {
        let state = State::take(beside)?;
        // Their dtype is bnb_4bit_quant_storage, which says nothing about what they mean.
        let (found, wanted) = (codes.bytes().len(), state.count.div_ceil(2));
        if found != wanted {
            return Err(beside.wrong(&format!(
                "it has {found} bytes, where the shape {:?} takes {wanted}",
                state.shape
            )));
        }
        let map = beside.take(MAP)?;
        beside.check(MAP, &map, Dtype::F32, 16)?;
        let scales = beside.take(SCALES)?;
        let blocks = state.count.div_ceil(state.block);
        let nested = match state.nested {
            None => {
                beside.check(SCALES, &scales, Dtype::F32, blocks)?;
                None
            }
            Some(nested) => {
                beside.check(SCALES, &scales, Dtype::U8, blocks)?;
                let map = beside.take(NESTED_MAP)?;
                beside.check(NESTED_MAP, &map, Dtype::F32, 256)?;
                let scales = beside.take(NESTED_SCALES)?;
                let of_scales = blocks.div_ceil(nested.block);
                beside.check(NESTED_SCALES, &scales, Dtype::F32, of_scales)?;
                Some(Nested {
                    block: nested.block,
                    offset: nested.offset,
                    map,
                    scales,
                })
            }
        };
        let scheme = Self {
            kind: state.kind,
            block: state.block,
            dtype: state.dtype,
            map,
            scales,
            nested,
        };
        Ok((scheme, state.shape))
    }

    /// f32 `[count]`: `map[code] · scale`, rounded to the weight's dtype. The first of two codes is in the
    /// higher half of their byte.
    pub fn dequantize(&self, codes: &[u8], count: usize) -> Vec<f32> {
        let map = floats(&self.map);
        let scales = match &self.nested {
            None => floats(&self.scales),
            Some(nested) => nested.dequantize(self.scales.bytes()),
        };
        self.scales.release();
        let mut values = vec![0.0; count];
        let chunks = values
            .par_chunks_mut(CHUNK)
            .zip(codes.par_chunks(CHUNK / 2))
            .zip(scales.par_chunks(CHUNK / self.block));
        chunks.for_each(|((values, codes), scales)| {
            let blocks = values
                .chunks_mut(self.block)
                .zip(codes.chunks(self.block / 2));
            for ((values, codes), scale) in blocks.zip(scales) {
                let mut table = [0.0; 16];
                for (entry, value) in table.iter_mut().zip(&map) {
                    *entry = self.rounded(value * scale);
                }
                for (pair, code) in values.chunks_mut(2).zip(codes) {
                    pair[0] = table[usize::from(code >> 4)];
                    if let Some(second) = pair.get_mut(1) {
                        *second = table[usize::from(code & 15)];
                    }
                }
            }
        });
        values
    }

    fn rounded(&self, value: f32) -> f32 {
        match self.dtype {
            DType::BF16 => bf16::from_f32(value).to_f32(),
            DType::F16 => f16::from_f32(value).to_f32(),
            _ => value,
        }
    }
}

impl Nested {
    /// f32, one for each of `codes`: `map[code] · scale + offset`.
    fn dequantize(&self, codes: &[u8]) -> Vec<f32> {
        let map = floats(&self.map);
        let scales = floats(&self.scales);
        let blocks = codes.chunks(self.block).zip(scales);
        blocks
            .flat_map(|(codes, scale)| {
                let map = &map;
                codes
                    .iter()
                    .map(move |&code| map[usize::from(code)] * scale + self.offset)
            })
            .collect()
    }
}
