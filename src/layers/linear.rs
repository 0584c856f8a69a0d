//! One linear layer, whatever its weights are.

use candle_core::{Result, Tensor};

use super::{Batch, RmsNorm, Weights};
use crate::kernels::{Epilogue, Matmul, Norm, Outputs};

/// `y = x · Wᵀ + b` on packed rows.
#[derive(Debug)]
pub struct Linear {
    weight: Matmul,
    /// `[out]`, in the activations' dtype.
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` `[out, in]`, and `bias` `[out]` when `bias` is set.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, memory runs out, or the device fails.
    pub fn load(
        weights: Weights<'_>,
        in_features: usize,
        out_features: usize,
        bias: bool,
    ) -> Result<Self> {
        let parts = [(weights, out_features)];
        Self::load_fused(&parts, in_features, bias, Outputs::SideBySide)
    }

    /// Reads several layers that share their input as one.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_fused(
        parts: &[(Weights<'_>, usize)],
        in_features: usize,
        bias: bool,
        outputs: Outputs,
    ) -> Result<Self> {
        let weight = Weights::matmul(parts, in_features, outputs)?;
        let biases = parts
            .iter()
            .filter(|_| bias)
            .map(|(part, out)| part.get(*out, "bias", part.activation_dtype()))
            .collect::<Result<Vec<_>>>()?;
        let bias = match biases.is_empty() {
            true => None,
            false => Some(Tensor::cat(&biases, 0)?),
        };
        Ok(Self { weight, bias })
    }

    /// A layer with a bias `[out]`, in the activations' dtype.
    pub fn new(weight: Matmul, bias: Tensor) -> Self {
        Self {
            weight,
            bias: Some(bias),
        }
    }

    /// `[rows, in]` to `[rows, out]`, in the dtype of `x`; half as wide if the outputs are gated.
    ///
    /// # Errors
    /// When `x` has other rows than the batch, or the device fails.
    pub fn forward(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        self.run(x, None, batch, Epilogue::default())
    }

    /// [`forward`](Self::forward) of the rows of `x` after `norm`, if there is one.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_normed(
        &self,
        x: &Tensor,
        norm: Option<&RmsNorm>,
        batch: &Batch,
    ) -> Result<Tensor> {
        let norm = norm.map(RmsNorm::parameters);
        self.run(x, norm, batch, Epilogue::default())
    }

    /// `gelu` of [`forward`](Self::forward).
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_gelu(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        let epilogue = Epilogue {
            gelu: true,
            ..Epilogue::default()
        };
        self.run(x, None, batch, epilogue)
    }

    /// `residual` `[rows, out]` plus [`forward`](Self::forward).
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor, batch: &Batch) -> Result<Tensor> {
        let epilogue = Epilogue {
            residual: Some(residual),
            ..Epilogue::default()
        };
        self.run(x, None, batch, epilogue)
    }

    fn run(
        &self,
        x: &Tensor,
        norm: Option<Norm<'_>>,
        batch: &Batch,
        epilogue: Epilogue<'_>,
    ) -> Result<Tensor> {
        batch.check(x)?;
        let bias = self.bias.as_ref();
        let epilogue = Epilogue { bias, ..epilogue };
        self.weight.forward(x, norm, batch.many_rows(), epilogue)
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
