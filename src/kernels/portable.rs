//! Kernels in candle's own operations, for every device.

use candle_core::{DType, Result, Tensor};

/// GELU of each value, in the tanh approximation; any shape and dtype.
pub(super) fn gelu(x: &Tensor) -> Result<Tensor> {
    rounded_once(x)?.gelu()?.to_dtype(x.dtype())
}

/// `gelu(gate) · up` for `[rows, 2 · width]` with the gate left and the up projection right; gives
/// `[rows, width]`.
pub(super) fn gelu_gated(gate_up: &Tensor) -> Result<Tensor> {
    let width = gate_up.dim(1)? / 2;
    let gate = rounded_once(&gate_up.narrow(1, 0, width)?)?.gelu()?;
    gate.to_dtype(gate_up.dtype())? * gate_up.narrow(1, width, width)?
}

/// candle's kernel rounds after every operation; the reference computes in f32 and rounds once.
fn rounded_once(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.to_dtype(DType::F32)
}
