//! Kernels for processors.
//!
//! Ours are written for x86-64. Elsewhere candle multiplies, which has NEON kernels for quantised
//! weights; only its GELU is replaced there, too.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a loop's loads, products and stores are sound for one reason"
)]

pub(super) mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(super) mod gelu;
mod instructions;
mod isa;
mod lanes;
pub(super) mod norm;
mod packed;
mod parallel;
mod portable;
mod product;
mod quantize;
mod self_check;
mod tile;

pub use instructions::{Instructions, InstructionsChoice, UnusableInstructions};
pub(super) use packed::{Arrangement, PackedFormat, PackedWeight};
pub(super) use product::{Epilogue, product};

#[cfg(test)]
mod tests;
