//! Kernels for processors.

pub(super) mod gelu;
