//! Weights that bitsandbytes quantised, as transformers saves them with a `BitsAndBytesConfig`: NF4 and
//! FP4 (Dettmers et al., arXiv 2305.14314) with or without quantised scales, and LLM.int8 (arXiv
//! 2208.07339). What lies in the files decides, never `config.json`.
//!
//! A linear layer's `weight` then holds codes, and tensors beside it say what they mean. The formulas are
//! those of bitsandbytes 0.50: `_dequantize_4bit_compute` and `_dequantize_blockwise_compute` in
//! `backends/default/ops.py`, `int8_vectorwise_dequant` in `_ops.py`; the layout of the files is
//! `QuantState.as_dict` in `functional.py`.

mod eight_bit;
mod four_bit;
mod state;

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::stored::StoredTensor;
use crate::telemetry::load_progress::LoadProgress;
use eight_bit::EightBit;
use four_bit::FourBit;

/// A weight whose codes are turned into numbers when it is read.
#[derive(Debug)]
pub struct Quantized {
    /// What the codes mean.
    scheme: Scheme,
    codes: StoredTensor,
    /// Of the weight, `[out, in]`.
    pub shape: Vec<usize>,
    /// In the files, with all that belongs to it.
    bytes: u64,
}

#[derive(Debug)]
enum Scheme {
    FourBit(Box<FourBit>),
    EightBit(EightBit),
}

/// The tensors that lie beside the codes of one weight.
struct Beside<'a> {
    weight: &'a str,
    parts: BTreeMap<String, StoredTensor>,
}

impl Quantized {
    fn new(codes: StoredTensor, mut beside: Beside<'_>) -> Result<Self, String> {
        let size = |tensor: &StoredTensor| tensor.bytes().len() as u64;
        let bytes = size(&codes) + beside.parts.values().map(size).sum::<u64>();
        let (scheme, shape) = if beside.parts.contains_key(eight_bit::SCALES) {
            let scheme = EightBit::new(&codes, &mut beside)?;
            (Scheme::EightBit(scheme), codes.shape.clone())
        } else {
            let (scheme, shape) = FourBit::new(&codes, &mut beside)?;
            (Scheme::FourBit(Box::new(scheme)), shape)
        };
        if let Some(part) = beside.parts.keys().next() {
            return Err(beside.wrong(&format!("{part:?} beside it does not go with the rest")));
        }
        Ok(Self {
            scheme,
            codes,
            shape,
            bytes,
        })
    }

    /// The name of the codes in their file.
    pub fn name(&self) -> &str {
        &self.codes.name
    }

    /// How many bytes it takes in the files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it is called: `nf4`, `fp4` or `int8`.
    pub fn format(&self) -> &'static str {
        match &self.scheme {
            Scheme::FourBit(scheme) => scheme.kind.name(),
            Scheme::EightBit(_) => "int8",
        }
    }

    /// The weight's numbers in `dtype` on `device`.
    ///
    /// # Errors
    /// When a number is not finite, or memory runs out.
    pub fn read(
        &self,
        dtype: DType,
        device: &Device,
        progress: &LoadProgress,
    ) -> candle_core::Result<Tensor> {
        let count = self.shape.iter().product();
        let values = match &self.scheme {
            Scheme::FourBit(scheme) => scheme.dequantize(self.codes.bytes(), count),
            Scheme::EightBit(scheme) => scheme.dequantize(self.codes.bytes(), count),
        };
        self.codes.release();
        progress.advance(self.bytes);
        let bad = values.par_iter().position_any(|value| !value.is_finite());
        if let Some(index) = bad {
            return Err(self.codes.not_finite_at(index));
        }
        Tensor::from_vec(values, self.shape.as_slice(), device)?.to_dtype(dtype)
    }
}

impl Beside<'_> {
    /// # Errors
    /// When there is no such tensor.
    fn take(&mut self, part: &str) -> Result<StoredTensor, String> {
        let found = self.parts.remove(part);
        found.ok_or_else(|| self.wrong(&format!("there is no {part} beside it")))
    }

    fn wrong(&self, reason: &str) -> String {
        format!(
            "tensor {:?} is quantised by bitsandbytes, and {reason}; save the checkpoint again, or use the one that is not quantised",
            self.weight
        )
    }

    /// Checks that a tensor has as many numbers of a dtype as it must.
    fn check(
        &self,
        part: &str,
        tensor: &StoredTensor,
        dtype: safetensors::Dtype,
        values: usize,
    ) -> Result<(), String> {
        if tensor.dtype == dtype && tensor.values() == values {
            return Ok(());
        }
        Err(self.wrong(&format!(
            "its {part} has {} values of {}, and {values} of {dtype} belong there",
            tensor.values(),
            tensor.dtype
        )))
    }
}

/// Takes the quantised weights, with all that lies beside them, out of `tensors`.
///
/// # Errors
/// When something is missing, has another size than the rest says, or is not known.
pub fn take_quantized(
    tensors: &mut HashMap<String, StoredTensor>,
) -> Result<HashMap<String, Quantized>, String> {
    let mut groups: BTreeMap<String, BTreeMap<String, StoredTensor>> = BTreeMap::new();
    let names: Vec<String> = tensors.keys().cloned().collect();
    for name in names {
        if let Some((weight, part)) = part_of(&name)
            && let Some(tensor) = tensors.remove(&name)
        {
            let group = groups.entry(weight).or_default();
            group.insert(part.to_owned(), tensor);
        }
    }
    let quantized = groups.into_iter().map(|(name, parts)| {
        let beside = Beside {
            weight: &name,
            parts,
        };
        let codes = tensors.remove(&name);
        let codes = codes.ok_or_else(|| beside.wrong("the weight itself is missing"))?;
        let quantized = Quantized::new(codes, beside)?;
        Ok((name, quantized))
    });
    quantized.collect()
}

/// The weight that a tensor describes, and as what; `None` for a tensor of its own.
fn part_of(name: &str) -> Option<(String, &str)> {
    if let Some((module, part)) = name.split_once(".weight.") {
        let known = four_bit::PARTS.contains(&part) || part.starts_with(state::KEY);
        return known.then(|| (format!("{module}.weight"), part));
    }
    let (module, part) = name.rsplit_once('.')?;
    let known = [eight_bit::SCALES, eight_bit::LAYOUT].contains(&part);
    known.then(|| (format!("{module}.weight"), part))
}

/// The numbers of an f32 tensor, little-endian as safetensors has them.
fn floats(tensor: &StoredTensor) -> Vec<f32> {
    let (numbers, _) = tensor.bytes().as_chunks();
    let floats = numbers.iter().map(|&number| f32::from_le_bytes(number));
    let floats = floats.collect();
    tensor.release();
    floats
}
