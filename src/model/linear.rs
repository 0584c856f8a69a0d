//! One linear layer, whatever its weights are.

use std::fmt;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::VarBuilder;

/// How weights are held in memory and multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightFormat {
    F32,
    F16,
    Bf16,
    /// 8 bits a weight in blocks of 32 with one f16 scale (GGML's Q8_0).
    Q8_0,
    /// 4.5 bits a weight in blocks of 256 (GGML's Q4_K); the token table stays in 8 bits.
    Q4K,
}

impl WeightFormat {
    /// The dtype of hidden states and of the KV cache beside these weights.
    ///
    /// The CPU computes in f32 always: candle has no bf16 kernels there and f16 overflows.
    pub fn activation_dtype(self, device: &Device) -> DType {
        match self {
            Self::Bf16 => DType::BF16,
            Self::F16 if device.is_cuda() => DType::F16,
            Self::F16 | Self::F32 | Self::Q8_0 | Self::Q4K => DType::F32,
        }
    }

    /// The format of the table that embeds tokens and gives logits, which needs more precision.
    pub(super) fn for_token_table(self) -> Self {
        match self {
            Self::Q4K => Self::Q8_0,
            other => other,
        }
    }

    /// The format of the few small layers around the vision tower, too small to be worth quantising.
    pub(super) fn unquantized(self) -> Self {
        match self {
            Self::Q4K | Self::Q8_0 => Self::F32,
            other => other,
        }
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4k",
        })
    }
}

/// `y = x · Wᵀ + b` on packed rows.
#[derive(Debug)]
pub struct Linear {
    weight: Weight,
    /// `[out]`, in the activations' dtype.
    bias: Option<Tensor>,
}

#[derive(Debug)]
enum Weight {
    /// `[out, in]`.
    Dense(Tensor),
    /// `[out, in]`, `in` padded with zeros to whole blocks.
    Quantized {
        matmul: QMatMul,
        in_features: usize,
        padded: usize,
    },
}

/// The fast quantised kernels want the inner dimension in multiples of this.
const BLOCK: usize = 256;

impl Linear {
    /// Reads `weight` `[out, in]`, and `bias` `[out]` when `bias` is set.
    pub fn load(
        vb: &VarBuilder,
        in_features: usize,
        out_features: usize,
        bias: bool,
        format: WeightFormat,
    ) -> Result<Self> {
        Self::load_fused(&[(vb.clone(), out_features)], in_features, bias, format)
    }

    /// Reads several layers that share their input as one, their outputs side by side.
    pub fn load_fused(
        parts: &[(VarBuilder, usize)],
        in_features: usize,
        bias: bool,
        format: WeightFormat,
    ) -> Result<Self> {
        let dtype = Weight::read_dtype(format);
        let weights = parts
            .iter()
            .map(|(vb, out)| {
                vb.get_with_hints_dtype((*out, in_features), "weight", Default::default(), dtype)
            })
            .collect::<Result<Vec<_>>>()?;
        let device = parts[0].0.device();
        let activations = format.activation_dtype(device);
        let bias = if bias {
            let biases = parts
                .iter()
                .map(|(vb, out)| {
                    vb.get_with_hints_dtype(*out, "bias", Default::default(), activations)
                })
                .collect::<Result<Vec<_>>>()?;
            Some(Tensor::cat(&biases, 0)?)
        } else {
            None
        };
        Ok(Self {
            weight: Weight::new(concat_rows(weights)?, format)?,
            bias,
        })
    }

    /// A layer without bias from a tensor `[out, in]`.
    pub fn from_weight(weight: Tensor, format: WeightFormat) -> Result<Self> {
        Ok(Self {
            weight: Weight::new(weight, format)?,
            bias: None,
        })
    }

    /// The same layer with a bias `[out]`.
    pub fn with_bias(self, bias: Tensor) -> Self {
        Self {
            bias: Some(bias),
            ..self
        }
    }

    /// `[rows, in]` to `[rows, out]`, in the dtype of `x`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.weight.forward(x)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    /// Rows of the weight, `ids` u32 `[n]` to `[n, in]`: an embedding that shares this layer's
    /// weight.
    pub fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Dense(weight) => weight.index_select(ids, 0),
            Weight::Quantized {
                matmul,
                in_features,
                ..
            } => matmul.embedding(ids)?.narrow(1, 0, *in_features),
        }
    }
}

impl Weight {
    /// The dtype in which a tensor is to be read for `format`.
    fn read_dtype(format: WeightFormat) -> DType {
        match format {
            WeightFormat::Bf16 => DType::BF16,
            WeightFormat::F16 => DType::F16,
            WeightFormat::F32 | WeightFormat::Q8_0 | WeightFormat::Q4K => DType::F32,
        }
    }

    fn new(weight: Tensor, format: WeightFormat) -> Result<Self> {
        let quantized = match format {
            WeightFormat::Q8_0 => GgmlDType::Q8_0,
            WeightFormat::Q4K => GgmlDType::Q4K,
            WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Bf16 => {
                return Ok(Self::Dense(weight.to_dtype(Self::read_dtype(format))?));
            }
        };
        let in_features = weight.dim(1)?;
        let padded = in_features.next_multiple_of(BLOCK);
        let weight = weight.pad_with_zeros(1, 0, padded - in_features)?;
        let matmul = QMatMul::from_qtensor(QTensor::quantize(&weight, quantized)?)?;
        Ok(Self::Quantized {
            matmul,
            in_features,
            padded,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = match self {
            Self::Dense(weight) => x.to_dtype(weight.dtype())?.matmul(&weight.t()?)?,
            Self::Quantized {
                matmul,
                in_features,
                padded,
            } => {
                let x = x.to_dtype(DType::F32)?;
                matmul.forward(&x.pad_with_zeros(1, 0, padded - in_features)?.contiguous()?)?
            }
        };
        y.to_dtype(x.dtype())
    }
}

/// Stacks matrices that have the same number of columns; a single one is not copied.
fn concat_rows(mut weights: Vec<Tensor>) -> Result<Tensor> {
    match weights.len() {
        1 => Ok(weights.remove(0)),
        _ => Tensor::cat(&weights, 0),
    }
}
