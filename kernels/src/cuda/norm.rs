//! Norms over rows.

use candle_core::{Result, Tensor, bail};

use super::arguments::{Argument, Kernel, optional_pointer, pack, size, suffix};
use super::launch::{device, pointer, uninit};
use super::ptx;

/// Packs of a row that a thread keeps.
const KEPT: usize = 4;

/// See [`rms_norm`](crate::rms_norm) and [`rms_norm_add`](crate::rms_norm_add).
pub(crate) fn rms_norm(
    x: &Tensor,
    scale: &Tensor,
    residual: Option<&Tensor>,
    eps: f32,
) -> Result<Tensor> {
    let (scale, residual) = (pointer(scale)?, optional_pointer(residual)?);
    norm("rms_norm", x, &[scale, residual], eps)
}

/// See [`layer_norm`](crate::layer_norm).
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    norm("layer_norm", x, &[pointer(weight)?, pointer(bias)?], eps)
}

fn norm(name: &str, x: &Tensor, parameters: &[u64], eps: f32) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (rows, width) = x.dims2()?;
    let device = device(&x)?;
    let y = uninit(&device, (rows, width), x.dtype())?;
    let packs = width.div_ceil(pack(x.dtype()));
    let threads = packs
        .min(256)
        .max(packs.div_ceil(KEPT))
        .next_multiple_of(32);
    if threads > 1024 {
        bail!("rows of {width} values are wider than the kernel takes")
    }
    let mut arguments = vec![Argument::from(pointer(&x)?)];
    arguments.extend(parameters.iter().map(|&pointer| Argument::from(pointer)));
    arguments.extend([pointer(&y)?.into(), size(width)?, eps.into()]);
    let kernel = Kernel {
        module: ("norm", ptx::NORM),
        name: &format!("{name}_{}", suffix(x.dtype())?),
        grid: (rows as u32, 1, 1),
        threads,
        shared: 0,
    };
    // SAFETY: as norm.cu says; the parameters are as wide as the rows, which the callers' shapes say.
    unsafe { kernel.launch(&device, &arguments) }?;
    Ok(y)
}
