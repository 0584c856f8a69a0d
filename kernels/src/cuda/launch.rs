//! Tensors as kernels see them, and launches.

use candle_core::cuda_backend::cudarc::driver::{DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::{CudaStorage, CudaStorageSlice};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, DType, Result, Shape, Storage, Tensor, bail};

/// Threads of a block where it does not matter.
pub(super) const THREADS: usize = 256;

/// One argument of a kernel.
pub(super) enum Argument {
    Pointer(u64),
    I32(i32),
    I64(i64),
    F32(f32),
}

impl From<u64> for Argument {
    fn from(pointer: u64) -> Self {
        Self::Pointer(pointer)
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

impl From<bool> for Argument {
    fn from(value: bool) -> Self {
        Self::I32(value.into())
    }
}

/// A size, which must fit.
pub(super) fn size(value: usize) -> Result<Argument> {
    match i32::try_from(value) {
        Ok(value) => Ok(Argument::I32(value)),
        Err(_) => bail!("a size of {value} is beyond what a kernel counts to"),
    }
}

/// A number of values.
pub(super) fn count(value: usize) -> Argument {
    Argument::I64(value as i64)
}

/// Blocks of [`THREADS`] threads that make `threads`.
pub(super) fn blocks(threads: usize) -> (u32, u32, u32) {
    (threads.div_ceil(THREADS) as u32, 1, 1)
}

/// Values that a thread loads at once: 16 bytes.
pub(super) fn pack(dtype: DType) -> usize {
    16 / dtype.size_in_bytes()
}

/// The device of a tensor that lies on a GPU.
pub(super) fn device(tensor: &Tensor) -> Result<CudaDevice> {
    Ok(tensor.device().as_cuda_device()?.clone())
}

/// What a dtype is called in kernels' names.
pub(super) fn suffix(dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F32 => Ok("f32"),
        DType::BF16 => Ok("bf16"),
        other => bail!("there are no kernels for {other:?} on a GPU"),
    }
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
        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0,
        _ => bail!("there are no kernels for {:?} on a GPU", tensor.dtype()),
    };
    Ok(base + (start * tensor.dtype().size_in_bytes()) as u64)
}

/// [`pointer`] of a tensor that may be absent: a null pointer then.
pub(super) fn optional_pointer(tensor: Option<&Tensor>) -> Result<u64> {
    tensor.map_or(Ok(0), pointer)
}

/// Memory for a result, whose values are not defined yet.
pub(super) fn uninit(device: &CudaDevice, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    let shape = shape.into();
    let count = shape.elem_count();
    // SAFETY: these are plain numbers, of which any bits are valid, and a kernel writes them first.
    let slice = unsafe {
        match dtype {
            DType::F32 => CudaStorageSlice::F32(device.alloc(count)?),
            DType::BF16 => CudaStorageSlice::BF16(device.alloc(count)?),
            DType::U32 => CudaStorageSlice::U32(device.alloc(count)?),
            other => bail!("there are no kernels for {other:?} on a GPU"),
        }
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

/// A kernel and the threads that run it.
pub(super) struct Kernel<'a> {
    /// The file's name and its text.
    pub module: (&'static str, &'static str),
    pub name: &'a str,
    pub grid: (u32, u32, u32),
    pub threads: usize,
    /// Bytes of memory that the threads of a block share.
    pub shared: usize,
}

impl Kernel<'_> {
    /// Queues the kernel.
    ///
    /// # Errors
    /// When the driver refuses it.
    ///
    /// # Safety
    /// The arguments are what the kernel's source says: as many, of these types, and pointers to
    /// memory of the extents that it reads and writes.
    pub(super) unsafe fn launch(&self, device: &CudaDevice, arguments: &[Argument]) -> Result<()> {
        let (module, text) = self.module;
        let function = device.get_or_load_custom_func(self.name, module, text)?;
        let mut launch = function.builder();
        for argument in arguments {
            match argument {
                Argument::Pointer(value) => launch.arg(value),
                Argument::I32(value) => launch.arg(value),
                Argument::I64(value) => launch.arg(value),
                Argument::F32(value) => launch.arg(value),
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
