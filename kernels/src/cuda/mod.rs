//! Our own kernels for NVIDIA GPUs, as PTX, and the products of cuBLAS.
//!
//! Work is queued on one stream, in order, and so is the release of memory: what a function here
//! launches may outlive the tensors that it was given.

mod attention;
mod device;
mod launch;
mod norm;
mod product;
mod token;

pub(crate) use attention::{attend_images, attend_rows, places};
pub(crate) use device::{card, check, prepare};
pub(crate) use norm::{layer_norm, rms_norm};
pub(crate) use product::{finish, product};
pub(crate) use token::{likeliest, logits};

/// The kernels' text, one constant a file.
mod ptx {
    include!(concat!(env!("OUT_DIR"), "/ptx.rs"));
}
