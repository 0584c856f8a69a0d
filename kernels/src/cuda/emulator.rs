//! Stands for a GPU: the kernels of emulator.cpp, on tensors in the processor's memory.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, DType, Device, Result, Shape, Storage, Tensor, bail};
use half::bf16;

use super::arguments::{Argument, Kernel, Matrices, Second};

/// The processor, which does everything at once.
#[derive(Clone)]
pub(super) struct Gpu;

/// So few that some prefixes and images are computed together and others in parts.
pub(super) const SCORES: usize = 1 << 10;

unsafe extern "C" {
    /// 1 if there is no kernel of that name, otherwise 0 after all threads have run.
    fn emulate(
        name: *const c_char,
        grid: *const c_uint,
        threads: c_uint,
        shared: c_uint,
        arguments: *const *const c_void,
    ) -> c_int;
}

/// Blocks share memory, so one kernel runs at a time.
static RUNS: Mutex<()> = Mutex::new(());

pub(super) fn device(_: &Tensor) -> Result<Gpu> {
    Ok(Gpu)
}

/// Where the values of a contiguous tensor begin.
pub(super) fn pointer(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("a kernel got values that are not contiguous")
    };
    let base = match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => values.as_ptr() as u64,
        Storage::Cpu(CpuStorage::BF16(values)) => values.as_ptr() as u64,
        Storage::Cpu(CpuStorage::F16(values)) => values.as_ptr() as u64,
        Storage::Cpu(CpuStorage::U32(values)) => values.as_ptr() as u64,
        Storage::Cpu(CpuStorage::U8(values)) => values.as_ptr() as u64,
        _ => bail!("there are no kernels for {:?}", tensor.dtype()),
    };
    Ok(base + (start * tensor.dtype().size_in_bytes()) as u64)
}

/// Memory for a result, whose values are no numbers.
pub(super) fn uninit(_: &Gpu, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    let shape = shape.into();
    match dtype {
        DType::F32 => Tensor::full(f32::NAN, shape, &Device::Cpu),
        DType::BF16 => Tensor::full(bf16::NAN, shape, &Device::Cpu),
        DType::U8 => Tensor::full(0xaa_u8, shape, &Device::Cpu),
        _ => Tensor::full(0xdead_u32, shape, &Device::Cpu),
    }
}

impl Kernel<'_> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// When there is none of that name.
    ///
    /// # Safety
    /// The arguments are what the kernel's source says.
    pub(super) unsafe fn launch(&self, _: &Gpu, arguments: &[Argument]) -> Result<()> {
        let _one_at_a_time = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(name) = CString::new(self.name) else {
            bail!("a kernel's name has no zeros")
        };
        let arguments: Vec<*const c_void> = arguments.iter().map(Argument::address).collect();
        let (x, y, z) = self.grid;
        // SAFETY: the caller vouches for the arguments.
        let outcome = unsafe {
            emulate(
                name.as_ptr(),
                [x, y, z].as_ptr(),
                self.threads as c_uint,
                self.shared as c_uint,
                arguments.as_ptr(),
            )
        };
        match outcome {
            0 => Ok(()),
            _ => bail!("there is no kernel {} in {}", self.name, self.module.0),
        }
    }
}

/// So that the ways of newer cards are seen.
pub(super) fn is_ampere(_: &Gpu) -> Result<bool> {
    Ok(true)
}

thread_local! {
    /// So few that decoding has several parts even of short sequences.
    static MULTIPROCESSORS: Cell<usize> = const { Cell::new(8) };
}

pub(super) fn multiprocessors(_: &Gpu) -> Result<usize> {
    Ok(MULTIPROCESSORS.get())
}

/// Does `work` as on a GPU with `count` multiprocessors, as far as this thread goes.
#[cfg(test)]
pub(super) fn with_multiprocessors<T>(count: usize, work: impl FnOnce() -> T) -> T {
    /// Sets it back, also after a panic.
    struct Usual(usize);
    impl Drop for Usual {
        fn drop(&mut self) {
            MULTIPROCESSORS.set(self.0);
        }
    }
    let _usual = Usual(MULTIPROCESSORS.replace(count));
    work()
}

/// As cuBLAS does it: `first` `[m, k]` times `second` into `product` `[m, n]`, for each of `batch`
/// matrices, summed in f32.
///
/// # Safety
/// All matrices lie within memory.
pub(super) unsafe fn multiply(
    _: &Gpu,
    batch: usize,
    (m, n, k): (usize, usize, usize),
    first: Matrices,
    (second, lies): (Matrices, Second),
    product: Matrices,
) -> Result<()> {
    for matrix in 0..batch {
        let places = |rows: usize| (0..rows).flat_map(|row| (0..k).map(move |i| (row, i)));
        // SAFETY: the caller vouches for the matrices.
        let rows: Vec<f32> = places(m)
            .map(|(row, i)| unsafe { read(first, matrix, row, i) })
            .collect();
        let columns: Vec<f32> = places(n)
            .map(|(column, i)| match lies {
                // SAFETY: as above.
                Second::AsIs => unsafe { read(second, matrix, i, column) },
                // SAFETY: as above.
                Second::Transposed => unsafe { read(second, matrix, column, i) },
            })
            .collect();
        for (row, values) in rows.chunks_exact(k).enumerate() {
            for (column, others) in columns.chunks_exact(k).enumerate() {
                let sum = values.iter().zip(others).map(|(a, b)| a * b).sum();
                // SAFETY: as above.
                unsafe { write(product, matrix, row, column, sum) };
            }
        }
    }
    Ok(())
}

fn at(matrices: Matrices, matrix: usize, row: usize, column: usize) -> usize {
    matrix * matrices.batch_stride + row * matrices.stride + column
}

unsafe fn read(matrices: Matrices, matrix: usize, row: usize, column: usize) -> f32 {
    let at = at(matrices, matrix, row, column);
    match matrices.dtype {
        DType::BF16 => {
            let place = (matrices.pointer as *const bf16).wrapping_add(at);
            // SAFETY: the caller vouches for the place.
            unsafe { place.read() }.to_f32()
        }
        _ => {
            let place = (matrices.pointer as *const f32).wrapping_add(at);
            // SAFETY: as above.
            unsafe { place.read() }
        }
    }
}

unsafe fn write(matrices: Matrices, matrix: usize, row: usize, column: usize, value: f32) {
    let at = at(matrices, matrix, row, column);
    match matrices.dtype {
        DType::BF16 => {
            let place = (matrices.pointer as *mut bf16).wrapping_add(at);
            // SAFETY: the caller vouches for the place.
            unsafe { place.write(bf16::from_f32(value)) }
        }
        _ => {
            let place = (matrices.pointer as *mut f32).wrapping_add(at);
            // SAFETY: as above.
            unsafe { place.write(value) }
        }
    }
}
