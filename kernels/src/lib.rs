//! What is multiplied and computed, and by which instructions: the only place that asks which
//! device it runs on or what the processor can do.
//!
//! How weights are stored ([`WeightFormat`]) and what multiplies them ([`Matmul`]) are two things:
//! a format may have several kernels, one for each kind of processor.

mod attention;
mod blocks;
mod card;
mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate-cuda"))]
mod cuda;
#[cfg(not(any(feature = "cuda", feature = "emulate-cuda")))]
#[path = "no_cuda.rs"]
mod cuda;
mod format;
mod graph;
mod low_rank;
mod matmul;
#[cfg(not(feature = "cuda"))]
mod no_graph;
mod norm;
mod placement;
mod portable;
mod token;
mod weights_cache;

use candle_core::{Device, Error};

pub use attention::{
    CachedPrefix, CachedRows, REACH, RowPlaces, Scoring, SeenKeys, attend_all, attend_cached,
    attend_images, attend_rows, rotate,
};
pub use card::{Card, card};
pub use cpu::{Instructions, InstructionsChoice, UnusableInstructions};
pub use format::{UnknownFormat, WeightFormat};
pub use graph::{Graph, GraphChoice};
pub use low_rank::{LowRank, Update, rows_of};
pub use matmul::{Epilogue, Matmul, Norm, Outputs};
pub use norm::{layer_norm, rms_norm, rms_norm_add};
pub use placement::{DeviceChoice, FormatChoice, Placement, PlacementError};
pub use token::{
    Likeliest, Logprobs, Neighbours, Report, likeliest, likeliest_ids, logits, logprobs, row,
};
pub use weights_cache::{CacheProgress, WeightsCache};

/// Settles which instructions our own kernels use on `placement`; `None` where candle's run.
///
/// # Errors
/// When the processor does not have them, or computes wrongly with them.
pub fn choose_instructions(
    placement: &Placement,
    choice: InstructionsChoice,
) -> Result<Option<Instructions>, UnusableInstructions> {
    match placement.gpu.is_none() && cfg!(target_arch = "x86_64") {
        true => choice.choose().map(Some),
        false => Ok(None),
    }
}

/// Does work that consists of many parallel parts on `device`.
///
/// On a CPU it runs on one of the threads that share the parts. From any other thread, every part
/// would wake one and wait for it.
pub fn run_on<T: Send>(device: &Device, work: impl FnOnce() -> T + Send) -> T {
    match device.is_cpu() {
        true => rayon::scope(|_| work()),
        false => work(),
    }
}

/// Whether the kernels of a GPU run on a device.
fn on_gpu(device: &Device) -> bool {
    device.is_cuda() || cfg!(feature = "emulate-cuda")
}

/// Whether our own kernels for processors run on a device.
fn own_kernels(device: &Device) -> bool {
    device.is_cpu() && cfg!(target_arch = "x86_64") && !on_gpu(device)
}

/// Whether what a device's error says is that its memory is full: errors of the driver and of cuBLAS.
pub fn is_out_of_memory(reason: &str) -> bool {
    ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"]
        .iter()
        .any(|sign| reason.contains(sign))
}

/// What a candle error says, in one line: with `RUST_BACKTRACE` set its own text is pages long.
pub fn reason(error: &Error) -> String {
    match error {
        Error::WithBacktrace { inner, .. } => reason(inner),
        other => other.to_string(),
    }
}
