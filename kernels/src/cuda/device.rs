//! A GPU made ready for us.

use candle_core::backend::BackendDevice;
use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::{CudaDevice, Error, Result, bail};

use crate::Card;
use crate::placement::dotted;

/// The compute capability that candle's kernels were built for, such as 75.
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
    let quantised_by_text = capability(device)?.to_string() != BUILT_FOR;
    candle_core::quantized::cuda::set_force_dmmv(quantised_by_text);
    Ok(())
}

/// Freed memory stays with the process: to give it back and ask again at every synchronisation takes
/// longer than a step.
fn keep_freed_memory(device: &CudaDevice) -> std::result::Result<(), result::DriverError> {
    let ordinal = device.cuda_stream().context().cu_device();
    let mut threshold = u64::MAX;
    // SAFETY: the device is open.
    let pool = unsafe { result::device::get_default_mem_pool(ordinal) }?;
    // SAFETY: the attribute is a number of 64 bits.
    unsafe {
        result::mem_pool::set_attribute(
            pool,
            sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut threshold).cast(),
        )
    }
}

/// The compute capability of a card, such as 90.
pub(crate) fn capability(device: &CudaDevice) -> Result<i32> {
    let stream = device.cuda_stream();
    let (major, minor) = stream.context().compute_capability().map_err(Error::wrap)?;
    Ok(10 * major + minor)
}

/// Whether the card can run what this binary was built for.
///
/// # Errors
/// When it is older; the text says what the card is and what is needed.
pub(crate) fn check(device: &CudaDevice) -> Result<()> {
    let (has, needs) = (capability(device)?, built_for());
    if has < needs {
        bail!(
            "this card's compute capability is {}, and this binary needs {} or newer",
            dotted(has),
            dotted(needs)
        );
    }
    Ok(())
}

fn built_for() -> i32 {
    BUILT_FOR.parse().unwrap_or(0)
}

/// See [`card`](crate::card).
pub(crate) fn card(gpu: usize) -> Result<Card> {
    let device = CudaDevice::new(gpu)?;
    let stream = device.cuda_stream();
    let context = stream.context();
    let (free_bytes, bytes) = context.mem_get_info().map_err(Error::wrap)?;
    let mut speaks = 0;
    // SAFETY: it writes one number to where the pointer leads.
    let told = unsafe { sys::cuDriverGetVersion(&raw mut speaks) };
    told.result().map_err(Error::wrap)?;
    Ok(Card {
        name: context.name().map_err(Error::wrap)?,
        driver: format!("{}.{}", speaks / 1000, speaks % 1000 / 10),
        capability: dotted(capability(&device)?),
        needs: dotted(built_for()),
        free_bytes,
        bytes,
    })
}
