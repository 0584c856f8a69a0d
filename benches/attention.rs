//! Attention at the shapes of PaliGemma 3B: 8 heads of 256 over one key head.

use candle_core::{Device, Tensor};
use divan::Bencher;
use paligemma_server::kernels::{Scoring, SeenKeys, attend_all, attend_cached};

const HEADS: usize = 8;
const HEAD_DIM: usize = 256;
const SCORING: Scoring = Scoring {
    scale: 0.0625,
    softcap: None,
};

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap()
}

/// A whole prefix: 224 and 448 pixels with a short prompt.
#[divan::bench(args = [264, 1032], sample_count = 10, sample_size = 1)]
fn prefix(bencher: Bencher, tokens: usize) {
    let q = random(&[tokens, HEADS, HEAD_DIM]);
    let (k, v) = (
        random(&[tokens, 1, HEAD_DIM]),
        random(&[tokens, 1, HEAD_DIM]),
    );
    bencher.bench(|| attend_all(&q, &k, &v, None, SCORING).unwrap());
}

/// One token for each of so many slots, each with 320 cached keys.
#[divan::bench(args = [1, 8, 32], sample_count = 20, sample_size = 1)]
fn decode(bencher: Bencher, slots: usize) {
    let tokens = 320;
    let q = random(&[slots, 1, HEADS, HEAD_DIM]);
    let (k, v) = (
        random(&[slots, 1, tokens, HEAD_DIM]),
        random(&[slots, 1, tokens, HEAD_DIM]),
    );
    let seen = SeenKeys::new(vec![0..tokens; slots], tokens, &Device::Cpu).unwrap();
    bencher.bench(|| attend_cached(&q, &k, &v, &seen, SCORING).unwrap());
}
