//! Gemma's MLP.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{Batch, Linear};
use crate::kernels::{WeightFormat, gelu_gated};

/// `down(gelu(gate(x)) · up(x))`.
#[derive(Debug)]
pub struct GatedMlp {
    /// The gate and the up projection side by side.
    gate_up: Linear,
    down: Linear,
}

impl GatedMlp {
    /// Reads `gate_proj`, `up_proj` and `down_proj`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(
        vb: &VarBuilder,
        hidden: usize,
        width: usize,
        format: WeightFormat,
    ) -> Result<Self> {
        let parts = ["gate_proj", "up_proj"].map(|name| (vb.pp(name), width));
        Ok(Self {
            gate_up: Linear::load_fused(&parts, hidden, false, format)?,
            down: Linear::load(&vb.pp("down_proj"), width, hidden, false, format)?,
        })
    }

    /// `[rows, hidden]` in, the same out.
    ///
    /// # Errors
    /// When the device fails.
    pub fn forward(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        let hidden = gelu_gated(&self.gate_up.forward(x, batch)?)?;
        self.down.forward(&hidden, batch)
    }
}
