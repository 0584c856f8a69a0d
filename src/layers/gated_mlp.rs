//! Gemma's MLP.

use candle_core::{Result, Tensor};

use super::{Batch, Linear, RmsNorm, Weights};
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

    /// Its linear layers.
    pub fn linears(&mut self) -> [&mut Linear; 2] {
        [&mut self.gate_up, &mut self.down]
    }

    /// `[rows, hidden]` in, which a norm may be applied to first, and the same out.
    ///
    /// # Errors
    /// When the device fails.
    pub fn forward(&self, x: &Tensor, norm: Option<&RmsNorm>, batch: &Batch) -> Result<Tensor> {
        self.down
            .forward(&self.gate_up.forward_normed(x, norm, batch)?, batch)
    }

    /// `x` plus [`forward`](Self::forward).
    ///
    /// # Errors
    /// When the device fails.
    pub fn forward_add(&self, x: &Tensor, norm: &RmsNorm, batch: &Batch) -> Result<Tensor> {
        let hidden = self.gate_up.forward_normed(x, Some(norm), batch)?;
        self.down.forward_add(&hidden, x, batch)
    }
}
