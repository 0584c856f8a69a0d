//! What this machine's processor can do at most: 8-bit and 32-bit arithmetic in registers, and
//! reading from memory, on one core and on all. Prints JSON on stdout and a table on stderr.
//!
//! ```text
//! cargo run --release --example machine_limits
//! ```

#[cfg(target_arch = "x86_64")]
mod arithmetic;
#[cfg(target_arch = "x86_64")]
mod limits;
#[cfg(target_arch = "x86_64")]
mod memory;
#[cfg(target_arch = "x86_64")]
mod processor;

#[cfg(target_arch = "x86_64")]
fn main() -> anyhow::Result<()> {
    limits::print()
}

#[cfg(not(target_arch = "x86_64"))]
fn main() -> anyhow::Result<()> {
    anyhow::bail!("the limits are measured on x86-64 only")
}
