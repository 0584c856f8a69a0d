//! Products with a weight, and what follows them.

use candle_core::cuda_backend::cudarc::cublas::{result as cublas, sys};
use candle_core::{CudaDevice, DType, Error, Result, Tensor, bail};

use super::launch::{
    Kernel, THREADS, blocks, count, device, optional_pointer, pack, pointer, size, suffix, uninit,
};
use super::norm::rms_norm;
use super::ptx;
use crate::{Epilogue, Norm};

/// Rows that `few_rows` takes at most, and warps of its blocks.
const FEW: usize = 4;
const WARPS: usize = 8;

/// Bytes that a block may share without asking.
const SHARED: usize = 40 << 10;

/// With fewer outputs, several warps share one, so that enough of the weight is on its way at once.
const ENOUGH_OUTPUTS: usize = 8192;

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
    let whole = in_features.is_multiple_of(pack(x.dtype()));
    if (1..=FEW).contains(&rows) && whole {
        return few_rows(&x, norm, weight, gated, epilogue);
    }
    let x = match norm {
        Some(norm) => rms_norm(&x, norm.scale, None, norm.eps)?,
        None => x,
    };
    finish(&x.matmul(&weight.t()?)?, gated, epilogue)
}

/// For one to four rows: reads the weight once, at the speed of memory.
fn few_rows(
    x: &Tensor,
    norm: Option<Norm<'_>>,
    weight: &Tensor,
    gated: bool,
    epilogue: Epilogue<'_>,
) -> Result<Tensor> {
    let (rows, in_features) = x.dims2()?;
    let width = weight.dim(0)? / if gated { 2 } else { 1 };
    let at_once = rows.next_power_of_two();
    let split = if width < ENOUGH_OUTPUTS { 4 } else { 1 };
    let gate = if gated { "gated_" } else { "" };
    let device = device(x)?;
    let bytes = rows * in_features * x.dtype().size_in_bytes();
    let normed = match norm {
        // Its rows are more than a block holds.
        Some(norm) if bytes > SHARED => Some(rms_norm(x, norm.scale, None, norm.eps)?),
        _ => None,
    };
    let (x, norm) = match &normed {
        Some(normed) => (normed, None),
        None => (x, norm),
    };
    let y = uninit(&device, (rows, width), x.dtype())?;
    let kernel = Kernel {
        module: ("product", ptx::PRODUCT),
        name: &format!("few_rows_{gate}{at_once}_{}", suffix(x.dtype())?),
        grid: (width.div_ceil(WARPS / split) as u32, 1, 1),
        threads: WARPS * 32,
        shared: if norm.is_some() { bytes } else { 0 },
    };
    let arguments = [
        pointer(x)?.into(),
        pointer(weight)?.into(),
        optional_pointer(norm.map(|norm| norm.scale))?.into(),
        norm.map_or(0.0, |norm| norm.eps).into(),
        optional_pointer(epilogue.bias)?.into(),
        optional_pointer(epilogue.residual)?.into(),
        pointer(&y)?.into(),
        size(rows)?,
        size(in_features)?,
        size(width)?,
        size(split)?,
        epilogue.gelu.into(),
    ];
    // SAFETY: as product.cu says; the extents follow from the weight's shape.
    unsafe { kernel.launch(&device, &arguments) }?;
    Ok(y)
}

/// What follows a product `y` `[rows, out]`: see [`Epilogue`]; a gated one is half as wide then.
pub(crate) fn finish(y: &Tensor, gated: bool, epilogue: Epilogue<'_>) -> Result<Tensor> {
    let (rows, out) = y.dims2()?;
    let Epilogue {
        bias,
        gelu,
        residual,
    } = epilogue;
    if !gated && bias.is_none() && !gelu && residual.is_none() {
        return Ok(y.clone());
    }
    let width = if gated { out / 2 } else { out };
    let device = device(y)?;
    let finished = uninit(&device, (rows, width), y.dtype())?;
    let values = rows * width;
    let name = if gated { "gelu_gated" } else { "epilogue" };
    let kernel = Kernel {
        module: ("product", ptx::PRODUCT),
        name: &format!("{name}_{}", suffix(y.dtype())?),
        grid: blocks(values.div_ceil(pack(y.dtype()))),
        threads: THREADS,
        shared: 0,
    };
    let (from, to) = (pointer(y)?.into(), pointer(&finished)?.into());
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
    unsafe { kernel.launch(&device, &arguments) }?;
    Ok(finished)
}

/// Matrices in memory, one after the other, as cuBLAS takes them.
#[derive(Clone, Copy)]
pub(super) struct Matrices {
    /// The first value of the first.
    pub pointer: u64,
    pub dtype: DType,
    /// Values from a row to the next.
    pub stride: usize,
    /// Values from a matrix to the next.
    pub batch_stride: usize,
}

/// How the second factor lies in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Second {
    /// `[k, n]`.
    AsIs,
    /// `[n, k]`.
    Transposed,
}

/// `first` `[m, k]` times `second` into `product` `[m, n]`, for each of `batch` matrices, summed in
/// f32.
///
/// # Safety
/// All matrices lie within the GPU's memory.
pub(super) unsafe fn multiply(
    device: &CudaDevice,
    batch: usize,
    (m, n, k): (usize, usize, usize),
    first: Matrices,
    (second, lies): (Matrices, Second),
    product: Matrices,
) -> Result<()> {
    let transposed = match lies {
        Second::AsIs => sys::cublasOperation_t::CUBLAS_OP_N,
        Second::Transposed => sys::cublasOperation_t::CUBLAS_OP_T,
    };
    let (one, zero) = (1f32, 0f32);
    // cuBLAS counts columns first, so to it every matrix is its transpose, and so is the product.
    // SAFETY: the caller vouches for the matrices.
    unsafe {
        cublas::gemm_strided_batched_ex(
            *device.cublas_handle().handle(),
            transposed,
            sys::cublasOperation_t::CUBLAS_OP_N,
            n as i32,
            m as i32,
            k as i32,
            (&raw const one).cast(),
            second.pointer as *const _,
            data_type(second.dtype)?,
            second.stride as i32,
            second.batch_stride as i64,
            first.pointer as *const _,
            data_type(first.dtype)?,
            first.stride as i32,
            first.batch_stride as i64,
            (&raw const zero).cast(),
            product.pointer as *mut _,
            data_type(product.dtype)?,
            product.stride as i32,
            product.batch_stride as i64,
            batch as i32,
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
        )
    }
    .map_err(Error::wrap)
}

fn data_type(dtype: DType) -> Result<sys::cudaDataType> {
    match dtype {
        DType::F32 => Ok(sys::cudaDataType::CUDA_R_32F),
        DType::BF16 => Ok(sys::cudaDataType::CUDA_R_16BF),
        other => bail!("there are no kernels for {other:?} on a GPU"),
    }
}
