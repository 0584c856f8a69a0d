//! Layers at the shapes of PaliGemma 3B, with random weights.

use std::collections::HashMap;
use std::sync::LazyLock;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use divan::Bencher;
use divan::counter::ItemsCount;
use paligemma_server::kernels::WeightFormat;
use paligemma_server::layers::{
    Batch, DecodeLayout, DecodeRow, KvCache, Linear, PrefixRows, Rope, RopeTable, Weights,
};
use paligemma_server::models::config::{Family, TextConfig};
use paligemma_server::models::gemma::DecoderLayer;

const HIDDEN: usize = 2048;
const MLP: usize = 16384;
const HEAD_DIM: usize = 256;
const HEADS: usize = 8;

fn weights(format: WeightFormat, shapes: &[(&str, &[usize])]) -> Weights<'static> {
    let random = |shape: &[usize]| Tensor::randn(0f32, 0.02, shape, &Device::Cpu).unwrap();
    let tensors: HashMap<String, Tensor> = shapes
        .iter()
        .map(|(name, shape)| (format!("{name}.weight"), random(shape)))
        .collect();
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    Weights::new(vb, format)
}

fn input(rows: usize) -> Tensor {
    Tensor::randn(0f32, 1f32, (rows, HIDDEN), &Device::Cpu).unwrap()
}

fn linear(format: WeightFormat) -> Linear {
    let weights = weights(format, &[("up_proj", &[MLP, HIDDEN])]);
    Linear::load(weights.pp("up_proj"), HIDDEN, MLP, false).unwrap()
}

fn bench_linear(bencher: Bencher, linear: &Linear, rows: usize) {
    let (x, batch) = (input(rows), Batch::of_rows(rows));
    bencher
        .counter(ItemsCount::new(rows))
        .bench(|| linear.forward(&x, &batch).unwrap());
}

/// From a decode step of one sequence to a prefill.
#[divan::bench(args = [1, 8, 264], sample_count = 5, sample_size = 1)]
fn linear_q8_0(bencher: Bencher, rows: usize) {
    static LINEAR: LazyLock<Linear> = LazyLock::new(|| linear(WeightFormat::Q8_0));
    bench_linear(bencher, &LINEAR, rows);
}

#[divan::bench(args = [1, 8, 264], sample_count = 5, sample_size = 1)]
fn linear_f32(bencher: Bencher, rows: usize) {
    static LINEAR: LazyLock<Linear> = LazyLock::new(|| linear(WeightFormat::F32));
    bench_linear(bencher, &LINEAR, rows);
}

fn config() -> TextConfig {
    TextConfig {
        family: Family::Gemma,
        vocab_size: 257_216,
        hidden_size: HIDDEN,
        intermediate_size: MLP,
        heads: HEADS,
        kv_heads: 1,
        head_dim: HEAD_DIM,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        query_pre_attn_scalar: HEAD_DIM as f64,
        attention_softcap: None,
        final_softcap: None,
        windows: vec![None],
        max_position_embeddings: 8192,
    }
}

/// A whole layer in 8 bits: one and eight sequences that decode after 264 tokens, and one prefix.
#[divan::bench(args = [1, 8, 264], sample_count = 5, sample_size = 1)]
fn gemma_layer_q8_0(bencher: Bencher, rows: usize) {
    static LAYER: LazyLock<DecoderLayer> = LazyLock::new(|| {
        let queries = HEADS * HEAD_DIM;
        let shapes: [(&str, &[usize]); 9] = [
            ("input_layernorm", &[HIDDEN]),
            ("post_attention_layernorm", &[HIDDEN]),
            ("self_attn.q_proj", &[queries, HIDDEN]),
            ("self_attn.k_proj", &[HEAD_DIM, HIDDEN]),
            ("self_attn.v_proj", &[HEAD_DIM, HIDDEN]),
            ("self_attn.o_proj", &[HIDDEN, queries]),
            ("mlp.gate_proj", &[MLP, HIDDEN]),
            ("mlp.up_proj", &[MLP, HIDDEN]),
            ("mlp.down_proj", &[HIDDEN, MLP]),
        ];
        let weights = weights(WeightFormat::Q8_0, &shapes);
        DecoderLayer::load(&weights, &config(), 0).unwrap()
    });
    let cache = KvCache::new(config().cache_shape(8, 320), DType::F32, &Device::Cpu).unwrap();
    let (x, batch) = (input(rows), batch(rows, &cache));
    bencher
        .counter(ItemsCount::new(rows))
        .bench(|| LAYER.forward(&x, &batch, cache.layer(0)).unwrap());
}

fn batch(rows: usize, cache: &KvCache) -> Batch {
    let table = RopeTable::new(512, HEAD_DIM, 10_000.0, DType::F32, &Device::Cpu).unwrap();
    let rope = |positions: Vec<u32>| -> Rope { table.at(&positions).unwrap() };
    if rows > 8 {
        let prefix = PrefixRows {
            slot: 0,
            start: 0,
            len: rows,
            masks: None,
        };
        return Batch::of_prefixes(
            vec![prefix],
            rope((0..rows as u32).collect()),
            1,
            &Device::Cpu,
        )
        .unwrap();
    }
    let decode: Vec<DecodeRow> = (0..rows)
        .map(|slot| DecodeRow {
            slot,
            position: 264,
            token: 0,
            adapter: None,
        })
        .collect();
    let layout = DecodeLayout::new(&decode, cache, None, &Device::Cpu).unwrap();
    Batch::of_decode(layout, rope(vec![264; rows]))
}
