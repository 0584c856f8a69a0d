//! Benchmarks of the parts; `tools/bench/compare.py` measures the whole.
//!
//! `cargo bench` runs all, `cargo bench --bench parts resize` those whose name contains it. They need no
//! checkpoint: weights are random, and the model behind the engine and HTTP is the tests' toy,
//! which costs nearly nothing.

mod attention;
mod http;
mod layers;
mod pixels;
mod scheduler;
mod tokenizer;

fn main() {
    divan::main();
}
