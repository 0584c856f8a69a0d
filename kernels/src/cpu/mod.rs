//! Kernels for processors.
//!
//! Ours are written for x86-64. Elsewhere candle multiplies, which has NEON kernels for quantised
//! weights; only its GELU is replaced there, too.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a loop's loads, products and stores are sound for one reason"
)]

mod activations;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bf16_rows;
mod cached_attention;
pub(super) mod gelu;
mod heads;
mod instructions;
mod isa;
mod lanes;
mod layout;
mod norm;
mod packed;
mod parallel;
mod portable;
mod product;
mod quantize;
mod rotate;
mod self_check;
mod softmax;
mod tile;
mod tiled_product;
mod up_panels;

pub(super) use attention::attend_all;
pub(super) use cached_attention::attend_cached;
pub(super) use heads::Heads;
pub use instructions::{Instructions, InstructionsChoice, UnusableInstructions};
pub(super) use layout::{Arrangement, LAYOUT, PackedFormat, PackedShape};
pub(super) use norm::{Norm, norm};
pub(super) use packed::{MappedBytes, PackedWeight};
pub(super) use product::{Epilogue, product};
#[cfg_attr(
    not(any(feature = "cuda", feature = "emulate-cuda")),
    expect(unused_imports, reason = "what GPUs quantise by, too")
)]
pub(super) use quantize::quantize_q8;
pub(super) use rotate::rotate;
pub(super) use up_panels::{RowUpdate, UpPanels};

#[cfg(test)]
mod tests;
