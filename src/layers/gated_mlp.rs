//! Gemma's MLP.

use candle_core::{Result, Tensor};

use super::{Batch, Linear, Weights};
use crate::kernels::Outputs;

/// `down(gelu(gate(x)) · up(x))`.
#[derive(Debug)]
pub struct GatedMlp {
    /// The gate and the up projection, the one applied to the other.
    gate_up: Linear,
    down: Linear,
}

impl GatedMlp {
    /// Reads `gate_proj`, `up_proj` and `down_proj`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(weights: &Weights<'_>, hidden: usize, width: usize) -> Result<Self> {
        let parts = ["gate_proj", "up_proj"].map(|name| (weights.pp(name), width));
        Ok(Self {
            gate_up: Linear::load_fused(&parts, hidden, false, Outputs::Gated)?,
            down: Linear::load(weights.pp("down_proj"), width, hidden, false)?,
        })
    }

    /// `[rows, hidden]` in, the same out.
    ///
    /// # Errors
    /// When the device fails.
    pub fn forward(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        self.down.forward(&self.gate_up.forward(x, batch)?, batch)
    }

    /// `residual` `[rows, hidden]` plus [`forward`](Self::forward).
    ///
    /// # Errors
    /// When the device fails.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor, batch: &Batch) -> Result<Tensor> {
        let hidden = self.gate_up.forward(x, batch)?;
        self.down.forward_add(&hidden, residual, batch)
    }
}
