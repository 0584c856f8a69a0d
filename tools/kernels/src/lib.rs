//! The server's kernels and their tests, without the server: see `tools/kernels/README.md`.

#[path = "../../../src/kernels/mod.rs"]
pub mod kernels;
