//! The formats of weights, and their names.

use std::fmt;
use std::str::FromStr;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device};

/// How weights are stored in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightFormat {
    F32,
    Bf16,
    /// 8 bits a weight in blocks of 32 with one f16 scale (GGML's Q8_0).
    Q8_0,
    /// 4.5 bits a weight in blocks of 256 (GGML's Q4_K); the token table stays in 8 bits.
    Q4K,
}

impl WeightFormat {
    /// Every format, with its name.
    const NAMES: [(Self, &str); 4] = [
        (Self::F32, "f32"),
        (Self::Bf16, "bf16"),
        (Self::Q8_0, "q8_0"),
        (Self::Q4K, "q4k"),
    ];

    /// The dtype of hidden states and of the KV cache beside these weights.
    pub fn activation_dtype(self) -> DType {
        match self {
            Self::Bf16 => DType::BF16,
            Self::F32 | Self::Q8_0 | Self::Q4K => DType::F32,
        }
    }

    /// The blocks that weights are quantised to, if they are.
    pub(super) fn block_dtype(self) -> Option<GgmlDType> {
        match self {
            Self::Q8_0 => Some(GgmlDType::Q8_0),
            Self::Q4K => Some(GgmlDType::Q4K),
            Self::F32 | Self::Bf16 => None,
        }
    }

    /// Bytes that a weight takes, its share of scales included.
    pub fn bytes_per_weight(self) -> f64 {
        match self {
            Self::F32 => 4.0,
            Self::Bf16 => 2.0,
            Self::Q8_0 => 34.0 / 32.0,
            Self::Q4K => 144.0 / 256.0,
        }
    }

    /// The dtype in which a weight is read from its file.
    pub fn read_dtype(self) -> DType {
        match self {
            Self::Bf16 => DType::BF16,
            Self::F32 | Self::Q8_0 | Self::Q4K => DType::F32,
        }
    }

    /// Where a weight is read to: quantising happens in the CPU's memory.
    pub fn read_device(self, device: &Device) -> Device {
        match self.block_dtype() {
            Some(_) => Device::Cpu,
            None => device.clone(),
        }
    }

    /// The format of the table that embeds tokens and gives logits, which needs more precision.
    pub fn for_token_table(self) -> Self {
        match self {
            Self::Q4K => Self::Q8_0,
            other => other,
        }
    }

    /// The format of the few small layers around the vision tower, too small to be worth quantising.
    pub fn unquantized(self) -> Self {
        match self {
            Self::Q4K | Self::Q8_0 => Self::F32,
            other => other,
        }
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(format, _)| format == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

/// A text that is no format's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no weight format")]
pub struct UnknownFormat(String);

impl FromStr for WeightFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let format = Self::NAMES.iter().find(|(_, name)| *name == text);
        format
            .map(|(format, _)| *format)
            .ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_read_back_as_its_format() {
        for (format, name) in WeightFormat::NAMES {
            assert_eq!(format.to_string(), name);
            assert_eq!(name.parse(), Ok(format));
        }
        assert!("int8".parse::<WeightFormat>().is_err());
    }
}
