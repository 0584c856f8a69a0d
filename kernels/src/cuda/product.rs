//! Products with a weight, and what follows them.

use candle_core::{Result, Tensor};

use super::arguments::{
    Kernel, Second, THREADS, WARPS, blocks, count, optional_pointer, pack, size, suffix,
};
use super::attention::matrices;
use super::launch::{device, multiply, pointer, uninit};
use super::norm::rms_norm;
use super::ptx;
use crate::{Epilogue, Norm};

/// With fewer outputs, several warps share one, so that enough of the weight is on its way at once.
pub(super) const ENOUGH_OUTPUTS: usize = 8192;

/// `x · Wᵀ` for `x` `[rows, in]` and a dense `weight` `[out, in]`, finished as `epilogue` says, or half
/// as wide if it is gated. The rows are normalised before, if there is a norm.
pub(crate) fn product(
    x: &Tensor,
    norm: Option<Norm<'_>>,
    weight: &Tensor,
    gated: bool,
    epilogue: Epilogue<'_>,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (rows, in_features) = x.dims2()?;
    if rows == 1 && in_features.is_multiple_of(pack(x.dtype())) {
        return one_row(&x, norm, weight, gated, epilogue);
    }
    let x = match norm {
        Some(norm) => rms_norm(&x, norm.scale, None, norm.eps)?,
        None => x,
    };
    let device = device(&x)?;
    let y = uninit(&device, (1, rows, weight.dim(0)?), x.dtype())?;
    // SAFETY: the matrices are those of tensors with these shapes.
    unsafe {
        multiply(
            &device,
            1,
            (rows, weight.dim(0)?, in_features),
            matrices(&x.unsqueeze(0)?)?,
            (matrices(&weight.unsqueeze(0)?)?, Second::Transposed),
            matrices(&y)?,
        )
    }?;
    finish(&y.squeeze(0)?, gated, epilogue)
}

/// For one row: reads the weight at the speed of memory.
fn one_row(
    x: &Tensor,
    norm: Option<Norm<'_>>,
    weight: &Tensor,
    gated: bool,
    epilogue: Epilogue<'_>,
) -> Result<Tensor> {
    let (out, in_features) = weight.dims2()?;
    let width = if gated { out / 2 } else { out };
    let split = if width < ENOUGH_OUTPUTS { 4 } else { 1 };
    let gate = if gated { "_gated" } else { "" };
    let device = device(x)?;
    let y = uninit(&device, (1, width), x.dtype())?;
    let kernel = Kernel {
        module: ("product", ptx::PRODUCT),
        name: &format!("one_row{gate}_{}", suffix(x.dtype())?),
        grid: (width.div_ceil(WARPS / split) as u32, 1, 1),
        threads: WARPS * 32,
        shared: 0,
    };
    let arguments = [
        pointer(x)?.into(),
        pointer(weight)?.into(),
        optional_pointer(norm.map(|norm| norm.scale))?.into(),
        norm.map_or(0.0, |norm| norm.eps).into(),
        optional_pointer(epilogue.bias)?.into(),
        optional_pointer(epilogue.residual)?.into(),
        pointer(&y)?.into(),
        size(in_features)?,
        size(width)?,
        size(split)?,
        epilogue.gelu.into(),
    ];
    // SAFETY: as product.cu says; the extents follow from the weight's shape.
    unsafe { kernel.launch(&device, &arguments) }?;
    Ok(y)
}

/// What follows a product `y` `[rows, out]` and its updates: see [`Epilogue`]; a gated one is half as
/// wide then.
pub(crate) fn finish(y: &Tensor, gated: bool, epilogue: Epilogue<'_>) -> Result<Tensor> {
    if !changes(gated, epilogue) {
        return Ok(y.clone());
    }
    let (rows, out) = y.dims2()?;
    let width = if gated { out / 2 } else { out };
    let finished = uninit(&device(y)?, (rows, width), y.dtype())?;
    finish_to(y, gated, epilogue, &finished)?;
    Ok(finished)
}

/// Whether anything follows the product.
pub(super) fn changes(gated: bool, epilogue: Epilogue<'_>) -> bool {
    gated || epilogue.bias.is_some() || epilogue.gelu || epilogue.residual.is_some()
}

/// [`finish`], to `finished`, which lies elsewhere.
pub(super) fn finish_to(
    y: &Tensor,
    gated: bool,
    epilogue: Epilogue<'_>,
    finished: &Tensor,
) -> Result<()> {
    let Epilogue {
        bias,
        gelu,
        residual,
        ..
    } = epilogue;
    let (rows, width) = finished.dims2()?;
    let values = rows * width;
    let name = if gated { "gelu_gated" } else { "epilogue" };
    let kernel = Kernel {
        module: ("product", ptx::PRODUCT),
        name: &format!("{name}_{}", suffix(y.dtype())?),
        grid: blocks(values.div_ceil(pack(y.dtype()))),
        threads: THREADS,
        shared: 0,
    };
    let (from, to) = (pointer(y)?.into(), pointer(finished)?.into());
    let (values, width) = (count(values), size(width)?);
    let arguments = match gated {
        true => vec![from, to, values, width],
        false => {
            let residual = residual.map(Tensor::contiguous).transpose()?;
            let (bias, residual) = (
                optional_pointer(bias)?.into(),
                optional_pointer(residual.as_ref())?.into(),
            );
            vec![from, bias, residual, to, values, width, gelu.into()]
        }
    };
    // SAFETY: as product.cu says; bias and residual have the product's width and shape.
    unsafe { kernel.launch(&device(y)?, &arguments) }
}
