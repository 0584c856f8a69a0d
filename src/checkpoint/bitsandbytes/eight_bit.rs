//! LLM.int8: 8-bit integers with a scale for every output.

use rayon::prelude::*;
use safetensors::Dtype;

use super::super::stored::StoredTensor;
use super::{Beside, floats};

/// The name of the scales: the largest absolute value of each row.
pub const SCALES: &str = "SCB";
/// The name of the tensor that says in which order the codes lie.
pub const LAYOUT: &str = "weight_format";

/// What bitsandbytes calls rows one after the other.
const ROWS: u8 = 0;

/// What bitsandbytes writes as 7.874015718698502e-3.
const STEP: f32 = 1.0 / 127.0;

/// f32 `[out]`.
#[derive(Debug)]
pub struct EightBit {
    scales: StoredTensor,
}

impl EightBit {
    /// Of codes `[out, in]` and what lies beside them.
    pub fn new(codes: &StoredTensor, beside: &mut Beside<'_>) -> Result<Self, String> {
        let [rows, _] = codes.shape[..] else {
            return Err(beside.wrong(&format!("its shape is {:?}", codes.shape)));
        };
        if codes.dtype != Dtype::I8 {
            let dtype = codes.dtype;
            return Err(beside.wrong(&format!("it has {SCALES} and values of {dtype}, not I8")));
        }
        let scales = beside.take(SCALES)?;
        beside.check(SCALES, &scales, Dtype::F32, rows)?;
        if let Some(layout) = beside.parts.remove(LAYOUT)
            && layout.bytes() != [ROWS]
        {
            return Err(beside.wrong(&format!(
                "its {LAYOUT} is {:?}, where only {ROWS} (row) is known",
                layout.bytes()
            )));
        }
        Ok(Self { scales })
    }

    /// f32 `[out, in]`: `code · SCB / 127`.
    pub fn dequantize(&self, codes: &[u8], count: usize) -> Vec<f32> {
        let scales = floats(&self.scales);
        let columns = count / scales.len().max(1);
        let mut values = vec![0.0; count];
        let rows = values
            .par_chunks_mut(columns.max(1))
            .zip(codes.par_chunks(columns.max(1)));
        rows.zip(scales).for_each(|((values, codes), scale)| {
            for (value, &code) in values.iter_mut().zip(codes) {
                *value = f32::from(code.cast_signed()) * scale * STEP;
            }
        });
        values
    }
}
