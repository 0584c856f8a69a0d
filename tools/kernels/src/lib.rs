//! The server's kernels and their tests, without the server: see `tools/kernels/README.md`.

#[path = "../../../src/kernels/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the server's layers use what is not used here"
)]
mod kernels;
