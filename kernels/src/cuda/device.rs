//! A GPU made ready for us.

use candle_core::cuda_backend::cudarc::driver::{CudaContext, result, sys};
use candle_core::{CudaDevice, Error, Result};

use crate::Card;
use crate::placement::{BF16_CAPABILITY, dotted};

/// The compute capability that candle's kernels were built for, such as `75`.
const BUILT_FOR: &str = env!("PALIGEMMA_CUDA_COMPUTE_CAP");

/// Makes the memory and the stream of `device` ours alone.
///
/// # Errors
/// When the driver refuses it.
pub(crate) fn prepare(device: &CudaDevice) -> Result<()> {
    // SAFETY: all work is queued on the one stream of this device, so nothing has to wait for
    // anything by events.
    unsafe { device.disable_event_tracking() };
    keep_freed_memory(device).map_err(Error::wrap)?;
    // candle's quantised kernels for the tensor cores are machine code of one capability, and it does
    // not notice when another card can't run them.
    let gpu = device.cuda_stream().context().ordinal();
    let quantised_by_text = capability(gpu)? != built_for();
    candle_core::quantized::cuda::set_force_dmmv(quantised_by_text);
    Ok(())
}

/// Freed memory stays with the process: to give it back and ask again at every synchronisation takes
/// longer than a step. Where there are no pools of memory, as on some virtual GPUs, nothing is kept.
fn keep_freed_memory(device: &CudaDevice) -> std::result::Result<(), result::DriverError> {
    let stream = device.cuda_stream();
    let card = stream.context().cu_device();
    let mut threshold = u64::MAX;
    // SAFETY: the device is open.
    let pool = match unsafe { result::device::get_default_mem_pool(card) } {
        Err(result::DriverError(sys::CUresult::CUDA_ERROR_NOT_SUPPORTED)) => return Ok(()),
        pool => pool?,
    };
    // SAFETY: the attribute is a number of 64 bits.
    unsafe {
        result::mem_pool::set_attribute(
            pool,
            sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut threshold).cast(),
        )
    }
}

/// The compute capability of a GPU, such as 90. The GPU need not be open.
pub(crate) fn capability(gpu: usize) -> Result<i32> {
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };

    let ask = || {
        result::init()?;
        let card = result::device::get(gpu as i32)?;
        // SAFETY: the driver has just given us the card.
        let of = |attribute| unsafe { result::device::get_attribute(card, attribute) };
        Ok(10 * of(MAJOR)? + of(MINOR)?)
    };
    ask().map_err(|error: result::DriverError| Error::wrap(error))
}

/// The compute capability that this binary was built for, such as 75.
pub(crate) fn built_for() -> i32 {
    BUILT_FOR.parse().unwrap_or(0)
}

/// See [`card`](crate::card).
pub(crate) fn card(gpu: usize) -> Result<Card> {
    // Without cuBLAS and the like, for which there may be no memory.
    let context = CudaContext::new(gpu).map_err(Error::wrap)?;
    let (free_bytes, bytes) = context.mem_get_info().map_err(Error::wrap)?;
    let mut speaks = 0;
    // SAFETY: it writes one number to where the pointer leads.
    let told = unsafe { sys::cuDriverGetVersion(&raw mut speaks) };
    told.result().map_err(Error::wrap)?;
    let capability = capability(gpu)?;
    Ok(Card {
        name: context.name().map_err(Error::wrap)?,
        driver: format!("{}.{}", speaks / 1000, speaks % 1000 / 10),
        capability: dotted(capability),
        has_bf16: capability >= BF16_CAPABILITY,
        needs: dotted(built_for()),
        free_bytes,
        bytes,
    })
}
