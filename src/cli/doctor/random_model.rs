//! Models of real dimensions with random weights, made on the spot.

use candle_core::{DType, Device, Result, Shape as Dims, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;
use paligemma_server::layers::Weights;
use paligemma_server::models::config::{Family, ModelConfig, TextConfig, VisionConfig};
use paligemma_server::models::{PaliGemma, WeightFormat};

/// Tokens of the published tokenizers, and rows of their tables.
pub const VOCAB: usize = 257_153;
const TABLE_ROWS: usize = 257_216;

/// A published model's dimensions, at 224 pixels.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Shape {
    /// PaliGemma 3B
    #[value(name = "paligemma-3b")]
    PaliGemma,
    /// PaliGemma 2 3B
    #[value(name = "paligemma2-3b")]
    PaliGemma2,
}

impl Shape {
    pub fn config(self) -> ModelConfig {
        let vision = VisionConfig {
            image_size: 224,
            patch_size: 14,
            hidden_size: 1152,
            intermediate_size: 4304,
            layers: 27,
            heads: 16,
            layer_norm_eps: 1e-6,
        };
        let text = TextConfig {
            family: Family::Gemma,
            vocab_size: TABLE_ROWS,
            hidden_size: 2048,
            intermediate_size: 16384,
            heads: 8,
            kv_heads: 1,
            head_dim: 256,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            query_pre_attn_scalar: 256.0,
            attention_softcap: None,
            final_softcap: None,
            windows: vec![None; 18],
            max_position_embeddings: 8192,
        };
        let text = match self {
            Self::PaliGemma => text,
            Self::PaliGemma2 => TextConfig {
                family: Family::Gemma2,
                hidden_size: 2304,
                intermediate_size: 9216,
                kv_heads: 4,
                attention_softcap: Some(50.0),
                final_softcap: Some(30.0),
                windows: [Some(4096), None].repeat(13),
                ..text
            },
        };
        ModelConfig { vision, text }
    }

    /// The whole model.
    pub fn load(self, device: &Device, format: WeightFormat) -> Result<PaliGemma> {
        PaliGemma::load(&weights(device, format), &self.config(), VOCAB)
    }
}

/// Random weights for any layer; the same for the same name, on every device and in every format.
pub fn weights(device: &Device, format: WeightFormat) -> Weights<'static> {
    let backend = Box::new(RandomWeights);
    let vb = VarBuilder::from_backend(backend, DType::F32, device.clone());
    Weights::new(vb, format)
}

struct RandomWeights;

impl SimpleBackend for RandomWeights {
    fn get(
        &self,
        shape: Dims,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let spread = match shape.dims() {
            // So that a product's values are as large as its input's.
            [_, inputs @ ..] if !inputs.is_empty() => {
                (inputs.iter().product::<usize>() as f64).powf(-0.5)
            }
            _ => 0.2,
        };
        let seed = name.bytes().fold(0usize, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(byte.into())
        });
        (noise(shape.elem_count(), seed, device)? * spread)?
            .to_dtype(dtype)?
            .reshape(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name} has no shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Values of which bf16 has each, with a mean of 0 and a deviation of 1, `[count]`: some thousand of
/// them, over and over, from a place that depends on `seed`.
pub fn noise(count: usize, seed: usize, device: &Device) -> Result<Tensor> {
    /// A prime, so that no row of a matrix begins like another.
    const BLOCK: usize = 1_000_003;
    let value = |i: usize| {
        let bits = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bits = (bits ^ bits >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let unit = (bits >> 40) as f32 / (1u64 << 24) as f32;
        half::bf16::from_f32((2.0 * unit - 1.0) * 3f32.sqrt())
    };
    let seed = seed % BLOCK;
    let block: Vec<_> = (0..BLOCK.min(count)).map(|i| value(i + seed)).collect();
    let block = Tensor::new(block, device)?;
    let times = count.div_ceil(block.elem_count());
    let values = Tensor::cat(&vec![&block; times], 0)?;
    values.narrow(0, 0, count)?.to_dtype(DType::F32)
}
