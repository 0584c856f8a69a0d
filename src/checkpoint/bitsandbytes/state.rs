//! What bitsandbytes writes about one weight of 4 bits, as JSON in a tensor of bytes.

use candle_core::DType;
use safetensors::Dtype;
use serde::Deserialize;

use super::Beside;

/// How the name of that tensor begins; the kind of 4 bits follows.
pub const KEY: &str = "quant_state.bitsandbytes__";

/// Blocks that bitsandbytes makes have 32 to 4,096 values.
const BLOCKS: std::ops::RangeInclusive<usize> = 32..=4096;

/// The meaning of the 16 codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nf4,
    Fp4,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nf4 => "nf4",
            Self::Fp4 => "fp4",
        }
    }
}

/// What is said about a weight.
#[derive(Debug)]
pub struct State {
    pub kind: Kind,
    /// Values that share a scale.
    pub block: usize,
    /// Of the weight.
    pub shape: Vec<usize>,
    /// How many values it has.
    pub count: usize,
    /// What the weight was before, and its numbers are rounded to.
    pub dtype: DType,
    /// How the scales are quantised themselves.
    pub nested: Option<NestedState>,
}

#[derive(Debug)]
pub struct NestedState {
    /// Scales that share a scale.
    pub block: usize,
    /// What is added to every scale.
    pub offset: f32,
}

/// The JSON's fields.
#[derive(Debug, Deserialize)]
struct Raw {
    quant_type: String,
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_dtype: Option<String>,
    nested_offset: Option<f32>,
}

impl State {
    /// Takes it from the tensors beside a weight.
    ///
    /// # Errors
    /// When there is none, or it says what bitsandbytes never says.
    pub fn take(beside: &mut Beside<'_>) -> Result<Self, String> {
        let is_state = |part: &&String| part.starts_with(KEY);
        let Some(key) = beside.parts.keys().find(is_state).cloned() else {
            return Err(beside.wrong(&format!("there is no {KEY}nf4 or {KEY}fp4 beside it")));
        };
        let tensor = beside.take(&key)?;
        if tensor.dtype != Dtype::U8 {
            return Err(beside.wrong(&format!("its {key:?} has values of {}", tensor.dtype)));
        }
        let raw: Raw = serde_json::from_slice(tensor.bytes())
            .map_err(|error| beside.wrong(&format!("its {key:?} is not as expected: {error}")))?;
        Self::new(raw, &key[KEY.len()..]).map_err(|reason| beside.wrong(&reason))
    }

    fn new(raw: Raw, key: &str) -> Result<Self, String> {
        let kind = match raw.quant_type.as_str() {
            kind if kind != key => {
                Err(format!("its quant_type is {kind:?} under the name {key:?}"))
            }
            "nf4" => Ok(Kind::Nf4),
            "fp4" => Ok(Kind::Fp4),
            other => Err(format!("its quant_type is {other:?}, not nf4 or fp4")),
        }?;
        let dtype = match raw.dtype.as_str() {
            "float32" => Ok(DType::F32),
            "float16" => Ok(DType::F16),
            "bfloat16" => Ok(DType::BF16),
            other => Err(format!("its dtype is {other:?}")),
        }?;
        let count = raw
            .shape
            .iter()
            .try_fold(1usize, |count, &side| count.checked_mul(side))
            .ok_or_else(|| format!("its shape is {:?}", raw.shape))?;
        let nested = match (raw.nested_blocksize, raw.nested_offset) {
            (None, None) => None,
            (Some(size), Some(offset)) if raw.nested_dtype.as_deref() == Some("float32") => {
                Some(NestedState {
                    block: block("nested_blocksize", size)?,
                    offset,
                })
            }
            _ => {
                return Err(format!(
                    "its scales are quantised with nested_blocksize {:?}, nested_offset {:?} and nested_dtype {:?}",
                    raw.nested_blocksize, raw.nested_offset, raw.nested_dtype
                ));
            }
        };
        Ok(Self {
            kind,
            block: block("blocksize", raw.blocksize)?,
            shape: raw.shape,
            count,
            dtype,
            nested,
        })
    }
}

fn block(field: &str, size: usize) -> Result<usize, String> {
    match BLOCKS.contains(&size) && size.is_power_of_two() {
        true => Ok(size),
        false => Err(format!(
            "its {field} is {size}, not a power of two from {} to {}",
            BLOCKS.start(),
            BLOCKS.end()
        )),
    }
}
