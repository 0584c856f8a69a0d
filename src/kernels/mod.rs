//! What is multiplied and computed, and by which instructions: the only place that asks which
//! device it runs on or what the processor can do.
//!
//! How weights are stored ([`WeightFormat`]) and what multiplies them ([`Matmul`]) are two things:
//! a format may have several kernels, one for each kind of processor.

mod cpu;
mod format;
mod matmul;
mod portable;

use candle_core::{Result, Tensor};

pub use format::{UnknownFormat, WeightFormat};
pub use matmul::Matmul;

/// GELU of each value in the tanh approximation (Hendrycks and Gimpel, arXiv 1606.08415), which all
/// of PaliGemma uses; any shape.
///
/// # Errors
/// When the device fails.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    match x.device().is_cpu() {
        true => cpu::gelu::gelu(x),
        false => portable::gelu(x),
    }
}

/// `gelu(gate) · up` for `[rows, 2 · width]` with the gate left and the up projection right; gives
/// `[rows, width]`.
///
/// # Errors
/// When the device fails.
pub fn gelu_gated(gate_up: &Tensor) -> Result<Tensor> {
    match gate_up.device().is_cpu() {
        true => cpu::gelu::gelu_gated(gate_up),
        false => portable::gelu_gated(gate_up),
    }
}
