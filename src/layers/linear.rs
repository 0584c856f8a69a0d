//! One linear layer, whatever its weights are.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::Batch;
use crate::kernels::{Matmul, WeightFormat};

/// `y = x · Wᵀ + b` on packed rows.
#[derive(Debug)]
pub struct Linear {
    weight: Matmul,
    /// `[out]`, in the activations' dtype.
    bias: Option<Tensor>,
}

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
            weight: Matmul::new(concat_rows(weights)?, format, device)?,
            bias,
        })
    }

    /// An unquantised layer from a weight `[out, in]` and a bias `[out]`, in `format`'s dtype.
    ///
    /// # Errors
    /// When the device fails.
    pub fn dense(weight: Tensor, bias: Tensor, format: WeightFormat) -> Result<Self> {
        let device = weight.device().clone();
        Ok(Self {
            weight: Matmul::new(weight, format.unquantized(), &device)?,
            bias: Some(bias),
        })
    }

    /// `[rows, in]` to `[rows, out]`, in the dtype of `x`.
    ///
    /// # Errors
    /// When `x` has other rows than the batch, or the device fails.
    pub fn forward(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        batch.check(x)?;
        let y = self.weight.forward(x)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    /// Rows of the weight, `ids` u32 `[n]` to `[n, in]`: an embedding that shares this layer's
    /// weight.
    ///
    /// # Errors
    /// When the device fails.
    pub fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        self.weight.rows(ids)
    }
}

/// Stacks matrices that have the same number of columns; a single one is not copied.
fn concat_rows(mut weights: Vec<Tensor>) -> Result<Tensor> {
    match weights.len() {
        1 => Ok(weights.remove(0)),
        _ => Tensor::cat(&weights, 0),
    }
}
