//! Norms over the last dimension.

use candle_core::{DType, Device, Result, Tensor};

use super::attention::values;
use super::cpu::{self, Instructions, Norm};
use super::{cuda, on_gpu, own_kernels};

/// `x / rms(x) · scale` for `x` `[rows, width]` and `scale` f32 `[width]`, in f32 and cast last to
/// the dtype of `x`.
///
/// # Errors
/// When the device fails.
pub fn rms_norm(x: &Tensor, scale: &Tensor, eps: f32) -> Result<Tensor> {
    if on_gpu(x.device()) {
        return cuda::rms_norm(x, scale, None, eps);
    }
    if !own_kernels(x.device()) {
        let y = candle_nn::ops::rms_norm(&x.to_dtype(DType::F32)?, scale, eps)?;
        return y.to_dtype(x.dtype());
    }
    let scale = scale.storage_and_layout();
    let scale = values(&scale.0, scale.1)?;
    norm(x, Norm::Rms { scale }, eps)
}

/// `residual` plus [`rms_norm`].
///
/// # Errors
/// When the device fails.
pub fn rms_norm_add(x: &Tensor, scale: &Tensor, residual: &Tensor, eps: f32) -> Result<Tensor> {
    match on_gpu(x.device()) {
        true => cuda::rms_norm(x, scale, Some(residual), eps),
        false => residual + rms_norm(x, scale, eps)?,
    }
}

/// `(x - mean) / deviation · weight + bias` for `x` `[rows, width]`, `weight` and `bias` f32
/// `[width]`, in f32 and cast last to the dtype of `x`.
///
/// # Errors
/// When the device fails.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    if on_gpu(x.device()) {
        return cuda::layer_norm(x, weight, bias, eps);
    }
    if !own_kernels(x.device()) {
        let y = candle_nn::ops::layer_norm(&x.to_dtype(DType::F32)?, weight, bias, eps)?;
        return y.to_dtype(x.dtype());
    }
    let (weight, bias) = (weight.storage_and_layout(), bias.storage_and_layout());
    let (weight, bias) = (values(&weight.0, weight.1)?, values(&bias.0, bias.1)?);
    norm(x, Norm::Layer { weight, bias }, eps)
}

fn norm(x: &Tensor, norm: Norm<'_>, eps: f32) -> Result<Tensor> {
    let x = x.contiguous()?;
    let shape = x.shape().clone();
    let x = x.storage_and_layout();
    let y = cpu::norm(Instructions::chosen(), values(&x.0, x.1)?, norm, eps);
    Tensor::from_vec(y, shape, &Device::Cpu)
}
