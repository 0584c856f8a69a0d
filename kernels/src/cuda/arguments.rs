//! What kernels and products are told.

use candle_core::{DType, Result, Tensor, bail};

use super::launch::pointer;

/// Threads of a block where it does not matter.
pub(super) const THREADS: usize = 256;

/// Warps of a block that multiplies.
pub(super) const WARPS: usize = 8;

/// One argument of a kernel.
pub(super) enum Argument {
    Pointer(u64),
    I32(i32),
    I64(i64),
    F32(f32),
    Adapters(Box<Adapters>),
}

/// The adapters of low_rank.cu.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Adapters {
    pub down: [u64; Self::MOST],
    pub up: [u64; Self::MOST],
    pub bias: [u64; Self::MOST],
    pub rows: [u64; Self::MOST],
    pub ranks: [i32; Self::MOST],
    pub counts: [i32; Self::MOST],
}

impl Adapters {
    /// Adapters that go together.
    pub const MOST: usize = 32;
}

impl Argument {
    /// Where its value lies.
    #[cfg(feature = "emulate-cuda")]
    pub(super) fn address(&self) -> *const std::ffi::c_void {
        match self {
            Self::Pointer(value) => std::ptr::from_ref(value).cast(),
            Self::I32(value) => std::ptr::from_ref(value).cast(),
            Self::I64(value) => std::ptr::from_ref(value).cast(),
            Self::F32(value) => std::ptr::from_ref(value).cast(),
            Self::Adapters(value) => std::ptr::from_ref(&**value).cast(),
        }
    }
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

impl From<Adapters> for Argument {
    fn from(adapters: Adapters) -> Self {
        Self::Adapters(Box::new(adapters))
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

/// What a dtype is called in kernels' names.
pub(super) fn suffix(dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F32 => Ok("f32"),
        DType::BF16 => Ok("bf16"),
        other => bail!("there are no kernels for {other:?} on a GPU"),
    }
}

/// [`pointer`] of a tensor that may be absent: a null pointer then.
pub(super) fn optional_pointer(tensor: Option<&Tensor>) -> Result<u64> {
    tensor.map_or(Ok(0), pointer)
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
