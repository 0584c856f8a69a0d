//! Tensors as kernels see them, and launches.

use candle_core::cuda_backend::cudarc::cublas::{result as cublas, sys};
use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaStorage, CudaStorageSlice};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, DType, Error, Result, Shape, Storage, Tensor, bail};

use super::arguments::{Adapters, Argument, Kernel, Matrices, Second};

/// A GPU, and the stream on which everything is queued.
pub(super) type Gpu = CudaDevice;

/// Scores of prefixes or images that are computed together, in f32 and then as weights.
pub(super) const SCORES: usize = 1 << 25;

/// The device of a tensor that lies on a GPU.
pub(super) fn device(tensor: &Tensor) -> Result<Gpu> {
    Ok(tensor.device().as_cuda_device()?.clone())
}

/// Where the values of a contiguous tensor begin in the GPU's memory.
pub(super) fn pointer(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("a kernel got values that are not contiguous")
    };
    let Storage::Cuda(CudaStorage { slice, device }) = &*storage else {
        bail!("a kernel of the GPU got values that lie elsewhere")
    };
    let stream = device.cuda_stream();
    let base = match slice {
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U8(slice) => slice.device_ptr(&stream).0,
        _ => bail!("there are no kernels for {:?} on a GPU", tensor.dtype()),
    };
    Ok(base + (start * tensor.dtype().size_in_bytes()) as u64)
}

/// Memory for a result, whose values are not defined yet.
pub(super) fn uninit(device: &Gpu, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    let shape = shape.into();
    let count = shape.elem_count();
    let slice = match dtype {
        DType::F32 => CudaStorageSlice::F32(numbers(device, count)?),
        DType::BF16 => CudaStorageSlice::BF16(numbers(device, count)?),
        DType::U32 => CudaStorageSlice::U32(numbers(device, count)?),
        DType::U8 => CudaStorageSlice::U8(numbers(device, count)?),
        other => bail!("there are no kernels for {other:?} on a GPU"),
    };
    let storage = CudaStorage {
        slice,
        device: device.clone(),
    };
    Ok(Tensor::from_storage(
        Storage::Cuda(storage),
        shape,
        BackpropOp::none(),
        false,
    ))
}

fn numbers<T: DeviceRepr>(device: &Gpu, count: usize) -> Result<CudaSlice<T>> {
    // SAFETY: these are plain numbers, of which any bits are valid, and a kernel writes them first.
    unsafe { device.alloc(count) }
}

// SAFETY: it lies in memory as the kernels' own struct.
unsafe impl DeviceRepr for Adapters {}

impl Kernel<'_> {
    /// Queues the kernel.
    ///
    /// # Errors
    /// When the driver refuses it.
    ///
    /// # Safety
    /// The arguments are what the kernel's source says: as many, of these types, and pointers to
    /// memory of the extents that it reads and writes.
    pub(super) unsafe fn launch(&self, device: &Gpu, arguments: &[Argument]) -> Result<()> {
        let (module, text) = self.module;
        let function = device.get_or_load_custom_func(self.name, module, text)?;
        let mut launch = function.builder();
        for argument in arguments {
            match argument {
                Argument::Pointer(value) => launch.arg(value),
                Argument::I32(value) => launch.arg(value),
                Argument::I64(value) => launch.arg(value),
                Argument::F32(value) => launch.arg(value),
                Argument::Adapters(value) => launch.arg(&**value),
            };
        }
        let config = LaunchConfig {
            grid_dim: self.grid,
            block_dim: (self.threads as u32, 1, 1),
            shared_mem_bytes: self.shared as u32,
        };
        // SAFETY: the caller vouches for the arguments.
        let launched = unsafe { launch.launch(config) };
        match launched {
            Ok(_) => Ok(()),
            Err(error) => bail!("the GPU refused the kernel {}: {error}", self.name),
        }
    }
}

/// Multiprocessors of the GPU.
///
/// # Errors
/// When the driver does not say.
pub(super) fn multiprocessors(device: &Gpu) -> Result<usize> {
    let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    let stream = device.cuda_stream();
    let count = stream.context().attribute(attribute).map_err(Error::wrap)?;
    Ok(usize::try_from(count).unwrap_or(1))
}

/// Whether the card is of compute capability 8.0 or later, so that its tensor cores multiply bf16.
///
/// # Errors
/// When the driver does not say.
pub(super) fn is_ampere(device: &Gpu) -> Result<bool> {
    let stream = device.cuda_stream();
    let (major, _) = stream.context().compute_capability().map_err(Error::wrap)?;
    Ok(major >= 8)
}

/// `first` `[m, k]` times `second` into `product` `[m, n]`, for each of `batch` matrices, summed in
/// f32.
///
/// # Safety
/// All matrices lie within the GPU's memory.
pub(super) unsafe fn multiply(
    device: &Gpu,
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
            // Not the one for tensor cores, which lets f32 be rounded to half.
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
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
