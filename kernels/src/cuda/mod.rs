//! Our own kernels for NVIDIA GPUs, as PTX, and the products of cuBLAS.
//!
//! Work is queued on one stream, in order, and so is the release of memory: what a function here
//! launches may outlive the tensors that it was given.
//!
//! With the feature `emulate-cuda` the same kernels run on the processor, a thread after the other: to
//! test them where there is no GPU.

mod arguments;
mod attention;
mod decode;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod graph;
mod images;
#[cfg_attr(feature = "emulate-cuda", path = "emulator.rs")]
mod launch;
mod low_rank;
mod norm;
mod prefixes;
mod product;
mod quantized;
#[cfg(all(test, feature = "emulate-cuda"))]
mod tests;
mod token;

pub(crate) use attention::{attend_rows, places};
#[cfg(feature = "cuda")]
pub(crate) use device::{built_for, capability, card, prepare};
#[cfg(feature = "cuda")]
pub(crate) use graph::Graph;
pub(crate) use images::attend_images;
pub(crate) use low_rank::{LowRankRows, add_low_rank};
pub(crate) use norm::{layer_norm, rms_norm};
pub(crate) use product::{finish, product};
pub(crate) use quantized::Tiles;
pub(crate) use token::{likeliest, logits};

/// There is no card where the kernels are emulated.
#[cfg(feature = "emulate-cuda")]
pub(crate) fn card(_: usize) -> candle_core::Result<crate::Card> {
    Err(candle_core::Error::NotCompiledWithCudaSupport)
}

/// What is emulated runs at once.
#[cfg(feature = "emulate-cuda")]
pub(crate) use crate::no_graph::Graph;

/// The kernels' text, one constant a file.
#[cfg(not(feature = "emulate-cuda"))]
mod ptx {
    include!(concat!(env!("OUT_DIR"), "/ptx.rs"));
    /// For cards of compute capability 8.0 and later.
    pub const QUANTIZED_80: &str = include_str!(concat!(env!("OUT_DIR"), "/ampere/quantized.ptx"));
}

/// The kernels are part of the program.
#[cfg(feature = "emulate-cuda")]
mod ptx {
    pub const ATTENTION: &str = "";
    pub const LOW_RANK: &str = "";
    pub const NORM: &str = "";
    pub const PRODUCT: &str = "";
    pub const QUANTIZED: &str = "";
    pub const QUANTIZED_80: &str = "";
    pub const TOKEN: &str = "";
}
