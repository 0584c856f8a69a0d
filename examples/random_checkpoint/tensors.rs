//! Random tensors under the names of the hub's original layout.

use std::borrow::Cow;

use half::bf16;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use safetensors::tensor::{Dtype, View};

use crate::Dimensions;

/// A tensor whose values are generated while it is written.
pub struct RandomTensor {
    shape: Vec<usize>,
    mean: f32,
    deviation: f32,
    seed: u64,
}

impl RandomTensor {
    pub fn new(shape: &[usize], mean: f32, deviation: f32, seed: u64) -> Self {
        Self {
            shape: shape.to_vec(),
            mean,
            deviation,
            seed,
        }
    }

    pub fn deviation(&self) -> f32 {
        self.deviation
    }

    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

impl View for RandomTensor {
    fn dtype(&self) -> Dtype {
        Dtype::BF16
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// A block of random values, repeated from a different offset each time, because generating
    /// billions of values one by one would take minutes.
    fn data(&self) -> Cow<'_, [u8]> {
        const BLOCK: usize = 1 << 20;
        let mut rng = StdRng::seed_from_u64(self.seed);
        let block: Vec<u8> = (0..BLOCK.min(self.len()))
            .flat_map(|_| {
                // Uniform, with the given standard deviation.
                let unit = (rng.random::<f32>() * 2.0 - 1.0) * 3f32.sqrt();
                bf16::from_f32(self.mean + self.deviation * unit).to_le_bytes()
            })
            .collect();
        let mut bytes = Vec::with_capacity(self.data_len());
        while bytes.len() < self.data_len() {
            let start = rng.random_range(0..block.len() / 2) * 2;
            let count = (self.data_len() - bytes.len()).min(block.len() - start);
            bytes.extend_from_slice(&block[start..start + count]);
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        2 * self.len()
    }
}

/// Every tensor under its name in the hub's original layout.
pub fn tensors(d: &Dimensions) -> Vec<(String, RandomTensor)> {
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize], mean: f32, deviation: f32| {
        let seed = tensors.len() as u64;
        tensors.push((name, RandomTensor::new(shape, mean, deviation, seed)));
    };
    let fan = |inputs: usize| (inputs as f32).powf(-0.5);
    // The layers must outweigh the embeddings in the residual stream. Otherwise every token is
    // followed by itself, because the token table is also the output layer.
    let (branch, post_norm) = match d.text_model_type {
        "gemma" => (4.0, 0.0),
        _ => (1.0, 3.0),
    };

    let (t, heads) = (&d.text, d.text.heads * d.head_dim);
    let model = "language_model.model";
    add(
        format!("{model}.embed_tokens.weight"),
        &[d.vocab_rows, t.hidden],
        0.0,
        fan(t.hidden),
    );
    add(format!("{model}.norm.weight"), &[t.hidden], 0.0, 0.2);
    let norms: &[&str] = match d.text_model_type {
        "gemma" => &["input_layernorm", "post_attention_layernorm"],
        _ => &[
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        ],
    };
    for layer in 0..t.layers {
        let layer = format!("{model}.layers.{layer}");
        for norm in norms {
            let mean = if norm.starts_with("post") {
                post_norm
            } else {
                0.0
            };
            add(format!("{layer}.{norm}.weight"), &[t.hidden], mean, 0.2);
        }
        let kv = d.kv_heads * d.head_dim;
        for (name, out, inputs, gain) in [
            ("self_attn.q_proj", heads, t.hidden, 2.0),
            ("self_attn.k_proj", kv, t.hidden, 2.0),
            ("self_attn.v_proj", kv, t.hidden, 1.0),
            ("self_attn.o_proj", t.hidden, heads, branch),
            ("mlp.gate_proj", t.mlp, t.hidden, 1.0),
            ("mlp.up_proj", t.mlp, t.hidden, 1.0),
            ("mlp.down_proj", t.hidden, t.mlp, branch),
        ] {
            add(
                format!("{layer}.{name}.weight"),
                &[out, inputs],
                0.0,
                gain * fan(inputs),
            );
        }
    }

    let (v, patch) = (&d.vision, d.patch_size);
    let projector = "multi_modal_projector.linear";
    add(
        format!("{projector}.weight"),
        &[t.hidden, v.hidden],
        0.0,
        fan(v.hidden),
    );
    add(format!("{projector}.bias"), &[t.hidden], 0.0, 0.02);
    let tower = "vision_tower.vision_model";
    let embeddings = format!("{tower}.embeddings");
    let shape = [v.hidden, 3, patch, patch];
    add(
        format!("{embeddings}.patch_embedding.weight"),
        &shape,
        0.0,
        fan(3 * patch * patch),
    );
    add(
        format!("{embeddings}.patch_embedding.bias"),
        &[v.hidden],
        0.0,
        0.02,
    );
    let patches = (d.image_size / patch).pow(2);
    add(
        format!("{embeddings}.position_embedding.weight"),
        &[patches, v.hidden],
        0.0,
        0.2,
    );
    let layers = (0..v.layers).map(|layer| format!("{tower}.encoder.layers.{layer}"));
    let norms: Vec<String> = layers
        .clone()
        .flat_map(|layer| {
            [
                format!("{layer}.layer_norm1"),
                format!("{layer}.layer_norm2"),
            ]
        })
        .chain([format!("{tower}.post_layernorm")])
        .collect();
    for norm in norms {
        add(format!("{norm}.weight"), &[v.hidden], 1.0, 0.2);
        add(format!("{norm}.bias"), &[v.hidden], 0.0, 0.1);
    }
    for layer in layers {
        for (name, out, inputs) in [
            ("self_attn.q_proj", v.hidden, v.hidden),
            ("self_attn.k_proj", v.hidden, v.hidden),
            ("self_attn.v_proj", v.hidden, v.hidden),
            ("self_attn.out_proj", v.hidden, v.hidden),
            ("mlp.fc1", v.mlp, v.hidden),
            ("mlp.fc2", v.hidden, v.mlp),
        ] {
            add(
                format!("{layer}.{name}.weight"),
                &[out, inputs],
                0.0,
                fan(inputs),
            );
            add(format!("{layer}.{name}.bias"), &[out], 0.0, 0.02);
        }
    }
    tensors
}
