//! One linear layer, whatever its weights are.

use std::fmt;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::VarBuilder;
use rayon::prelude::*;

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
    pub fn activation_dtype(self) -> DType {
        match self {
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
            Self::F32 | Self::Q8_0 | Self::Q4K => DType::F32,
        }
    }

    /// The blocks that weights are quantised to, if they are.
    fn block_dtype(self) -> Option<GgmlDType> {
        match self {
            Self::Q8_0 => Some(GgmlDType::Q8_0),
            Self::Q4K => Some(GgmlDType::Q4K),
            Self::F32 | Self::F16 | Self::Bf16 => None,
        }
    }

    /// The dtype in which a weight is read from its file.
    fn read_dtype(self) -> DType {
        match self {
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
            Self::F32 | Self::Q8_0 | Self::Q4K => DType::F32,
        }
    }

    /// Where a weight is read to: quantising happens in the CPU's memory.
    fn read_device(self, device: &Device) -> Device {
        match self.block_dtype() {
            Some(_) => Device::Cpu,
            None => device.clone(),
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
        let device = parts[0].0.device();
        let weights = parts
            .iter()
            .map(|(vb, out)| {
                vb.clone()
                    .set_device(format.read_device(device))
                    .get_with_hints_dtype(
                        (*out, in_features),
                        "weight",
                        Default::default(),
                        format.read_dtype(),
                    )
            })
            .collect::<Result<Vec<_>>>()?;
        let activations = format.activation_dtype();
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
            weight: Weight::new(concat_rows(weights)?, format, device)?,
            bias,
        })
    }

    /// An unquantised layer from a weight `[out, in]` and a bias `[out]`.
    pub fn dense(weight: Tensor, bias: Tensor) -> Self {
        Self {
            weight: Weight::Dense(weight),
            bias: Some(bias),
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
    /// `weight` as [`Self::read`] gives it, brought to `device`.
    fn new(weight: Tensor, format: WeightFormat, device: &Device) -> Result<Self> {
        let Some(dtype) = format.block_dtype() else {
            return Ok(Self::Dense(weight.to_dtype(format.read_dtype())?));
        };
        let in_features = weight.dim(1)?;
        let padded = in_features.next_multiple_of(BLOCK);
        let weight = weight.pad_with_zeros(1, 0, padded - in_features)?;
        let matmul = QMatMul::from_qtensor(quantize(&weight, dtype, device)?)?;
        // The first product packs the weight for the processor. Better now than in a request.
        matmul.forward(&Tensor::zeros((1, padded), DType::F32, device)?)?;
        Ok(Self::Quantized {
            matmul,
            in_features,
            padded,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = match self {
            Self::Dense(weight) => x.matmul(&weight.t()?)?,
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

/// Quantises `weight`, f32 `[rows, padded]` in the CPU's memory, on all cores.
fn quantize(weight: &Tensor, dtype: GgmlDType, device: &Device) -> Result<QTensor> {
    let rows = weight.dim(0)?;
    let share = rows.div_ceil(4 * rayon::current_num_threads());
    let starts: Vec<usize> = (0..rows).step_by(share).collect();
    let parts = starts
        .into_par_iter()
        .map(|start| {
            let rows = weight.narrow(0, start, share.min(rows - start))?;
            // A copy, because `quantize` reads all of what a view is a view of.
            QTensor::quantize(&rows.force_contiguous()?, dtype)
        })
        .collect::<Result<Vec<_>>>()?;
    let blocks = parts
        .iter()
        .map(QTensor::data)
        .collect::<Result<Vec<_>>>()?;
    let storage = QStorage::from_data(blocks.concat().into(), device, dtype)?;
    QTensor::new(storage, weight.shape().clone())
}

/// Stacks matrices that have the same number of columns; a single one is not copied.
fn concat_rows(mut weights: Vec<Tensor>) -> Result<Tensor> {
    match weights.len() {
        1 => Ok(weights.remove(0)),
        _ => Tensor::cat(&weights, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[rows, columns]` of values that no two rows share.
    fn waves(rows: usize, columns: usize) -> Tensor {
        let value = |i: usize| ((i / columns) as f32 * 1.7 + (i % columns) as f32 * 0.31).sin();
        let values: Vec<f32> = (0..rows * columns).map(value).collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    fn relative_error(ours: &Tensor, exact: &Tensor) -> f32 {
        let norm = |x: Tensor| {
            let sum = x.sqr().unwrap().sum_all().unwrap();
            sum.to_scalar::<f32>().unwrap().sqrt()
        };
        norm((ours - exact).unwrap()) / norm(exact.clone())
    }

    #[test]
    fn quantised_weights_give_nearly_the_exact_product_and_rows() {
        // Neither side is a whole number of blocks or of shares.
        let (weight, x) = (waves(133, 72), waves(5, 72));
        let exact = x.matmul(&weight.t().unwrap()).unwrap();
        let ids = Tensor::new(&[0u32, 17, 132], &Device::Cpu).unwrap();
        let exact_rows = weight.index_select(&ids, 0).unwrap();
        for (format, tolerance) in [
            (WeightFormat::F32, 1e-6),
            (WeightFormat::Q8_0, 0.02),
            (WeightFormat::Q4K, 0.12),
        ] {
            let layer = Linear {
                weight: Weight::new(weight.clone(), format, &Device::Cpu).unwrap(),
                bias: None,
            };
            let error = relative_error(&layer.forward(&x).unwrap(), &exact);
            assert!(error < tolerance, "{format}: {error}");
            let rows = layer.rows(&ids).unwrap().to_dtype(DType::F32).unwrap();
            let error = relative_error(&rows, &exact_rows);
            assert!(error < tolerance, "{format}, rows: {error}");
        }
    }
}
