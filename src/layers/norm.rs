//! Normalisation in f32, whatever the hidden states are.

use candle_core::{DType, Result, Tensor};

use super::Weights;
use crate::kernels::{Norm, layer_norm, rms_norm, rms_norm_add};

/// Gemma's norm: `x / rms(x) · (1 + w)`, all in f32 and cast last.
#[derive(Debug)]
pub struct RmsNorm {
    /// `1 + w`, f32 `[hidden]`.
    scale: Tensor,
    eps: f32,
}

impl RmsNorm {
    pub fn load(weights: &Weights<'_>, hidden: usize, eps: f64) -> Result<Self> {
        let weight = weights.get(hidden, "weight", DType::F32)?;
        Ok(Self {
            scale: (weight + 1.0)?,
            eps: eps as f32,
        })
    }

    /// `[rows, hidden]` in, the same shape and dtype out.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        rms_norm(x, &self.scale, self.eps)
    }

    /// For a product that normalises its input.
    pub(super) fn parameters(&self) -> Norm<'_> {
        Norm {
            scale: &self.scale,
            eps: self.eps,
        }
    }

    /// `residual` plus [`forward`](Self::forward).
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        rms_norm_add(x, &self.scale, residual, self.eps)
    }
}

/// SigLIP's norm, with weight and bias.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    pub fn load(weights: &Weights<'_>, hidden: usize, eps: f64) -> Result<Self> {
        let get = |name| weights.get(hidden, name, DType::F32);
        Ok(Self {
            weight: get("weight")?,
            bias: get("bias")?,
            eps: eps as f32,
        })
    }

    /// `[rows, hidden]` in, the same shape and dtype out.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}
