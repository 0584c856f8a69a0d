//! Each layer against PyTorch: see `tests/goldens/layers/README.md`.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use paligemma_server::kernels::{Scoring, SeenKeys, WeightFormat, attend_all, attend_cached};
use paligemma_server::layers::{
    Attention, AttentionShape, Batch, DecodeLayout, DecodeRow, GatedMlp, ImageAttention, KvCache,
    LayerCache, LayerNorm, Linear, PrefixRows, RmsNorm, RopeTable, Weights,
};
use paligemma_server::models::config::{Family, TextConfig, VisionConfig};
use paligemma_server::models::gemma::DecoderLayer;
use paligemma_server::models::siglip::EncoderLayer;

const TEXTS: [&str; 3] = ["gemma", "gemma2", "gemma2_window"];
const HIDDEN: usize = 32;
const MLP: usize = 64;
const PREFIX: usize = 6;
const DECODED: usize = 3;
/// Neither the first nor the last, so that a wrong slot shows.
const SLOT: usize = 1;

struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn load() -> Self {
        let path = paligemma_test_support::root().join("tests/goldens/layers/golden.safetensors");
        Self(candle_core::safetensors::load(path, &Device::Cpu).unwrap())
    }

    fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn weights(&self, part: &str) -> Weights<'static> {
        let vb = VarBuilder::from_tensors(self.0.clone(), DType::F32, &Device::Cpu);
        Weights::new(vb, WeightFormat::F32).pp(part).pp("weights")
    }

    /// Off by at most 1e-4 of the largest value.
    fn check(&self, name: &str, ours: &Tensor) {
        let expected = self.get(name);
        assert_eq!(ours.dims(), expected.dims(), "{name}");
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (ours, expected) = (values(ours), values(expected));
        let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
        assert!(largest > 0.0, "{name} is all zero");
        for (i, (a, b)) in ours.iter().zip(&expected).enumerate() {
            let off = (a - b).abs() / largest;
            assert!(off <= 1e-4, "{name}[{i}] is {a}, not {b}");
        }
    }
}

fn config(part: &str) -> TextConfig {
    let gemma2 = part != "gemma";
    TextConfig {
        family: if gemma2 {
            Family::Gemma2
        } else {
            Family::Gemma
        },
        vocab_size: 8,
        hidden_size: HIDDEN,
        intermediate_size: MLP,
        heads: 4,
        kv_heads: if gemma2 { 2 } else { 1 },
        head_dim: 16,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        query_pre_attn_scalar: if gemma2 { 12.0 } else { 16.0 },
        attention_softcap: gemma2.then_some(2.0),
        final_softcap: None,
        windows: vec![(part == "gemma2_window").then_some(4)],
        max_position_embeddings: 2048,
    }
}

/// Prefills, decodes token by token, and checks outputs and cache against `part.stage`.
fn check_text(
    golden: &Golden,
    part: &str,
    stage: &str,
    forward: impl Fn(&Tensor, &Batch, &LayerCache) -> Result<Tensor>,
) -> Result<()> {
    let config = config(part);
    let name = |what: &str| format!("{part}.{stage}.{what}");
    let x = golden.get(&format!("{part}.x"));
    let rope = RopeTable::new(
        64,
        config.head_dim,
        config.rope_theta,
        DType::F32,
        &Device::Cpu,
    )?;
    let cache = KvCache::new(config.cache_shape(3, 20), DType::F32, &Device::Cpu)?;
    let cached = |tensor: &Tensor, tokens: usize| tensor.get(SLOT)?.narrow(1, 0, tokens);

    let prefix = PrefixRows {
        slot: SLOT,
        start: 0,
        len: PREFIX,
        masks: None,
    };
    let positions: Vec<u32> = (0..PREFIX as u32).collect();
    let batch = Batch::of_prefixes(vec![prefix], rope.at(&positions)?, 1, &Device::Cpu)?;
    let mut outputs = vec![forward(&x.narrow(0, 0, PREFIX)?, &batch, cache.layer(0))?];
    golden.check(&name("prefilled.keys"), &cached(&cache.layer(0).k, PREFIX)?);
    golden.check(
        &name("prefilled.values"),
        &cached(&cache.layer(0).v, PREFIX)?,
    );

    for position in PREFIX..PREFIX + DECODED {
        let row = DecodeRow {
            slot: SLOT,
            position,
            token: 0,
            adapter: None,
        };
        let layout = DecodeLayout::new(&[row], &cache, config.window(), &Device::Cpu)?;
        let batch = Batch::of_decode(layout, rope.at(&[position as u32])?);
        outputs.push(forward(&x.narrow(0, position, 1)?, &batch, cache.layer(0))?);
    }
    golden.check(&name("y"), &Tensor::cat(&outputs, 0)?);
    let tokens = PREFIX + DECODED;
    golden.check(&name("keys"), &cached(&cache.layer(0).k, tokens)?);
    golden.check(&name("values"), &cached(&cache.layer(0).v, tokens)?);
    Ok(())
}

#[test]
fn attention_and_its_cache() -> Result<()> {
    let golden = Golden::load();
    for part in TEXTS {
        let config = config(part);
        let shape = AttentionShape {
            hidden: HIDDEN,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            window: config.windows[0],
            scoring: Scoring {
                scale: config.query_pre_attn_scalar.powf(-0.5),
                softcap: config.attention_softcap,
            },
        };
        let attention = Attention::load(&golden.weights(part).pp("self_attn"), shape)?;
        check_text(&golden, part, "attention", |x, batch, cache| {
            attention.forward(x, batch, cache)
        })?;
    }
    Ok(())
}

#[test]
fn gemma_layers() -> Result<()> {
    let golden = Golden::load();
    for part in TEXTS {
        let layer = DecoderLayer::load(&golden.weights(part), &config(part), 0)?;
        check_text(&golden, part, "layer", |x, batch, cache| {
            layer.forward(x, batch, cache)
        })?;
    }
    Ok(())
}

#[test]
fn rms_norm() -> Result<()> {
    let golden = Golden::load();
    for part in TEXTS {
        let norm = RmsNorm::load(&golden.weights(part).pp("input_layernorm"), HIDDEN, 1e-6)?;
        let x = golden.get(&format!("{part}.x"));
        golden.check(&format!("{part}.rms.y"), &norm.forward(x)?);
    }
    Ok(())
}

#[test]
fn gated_mlp() -> Result<()> {
    let golden = Golden::load();
    for part in TEXTS {
        let mlp = GatedMlp::load(&golden.weights(part).pp("mlp"), HIDDEN, MLP)?;
        let x = golden.get(&format!("{part}.x"));
        let y = mlp.forward(x, None, &Batch::of_rows(x.dim(0)?))?;
        golden.check(&format!("{part}.mlp.y"), &y);
    }
    Ok(())
}

#[test]
fn rope() -> Result<()> {
    let golden = Golden::load();
    let table = RopeTable::new(1024, 16, 10_000.0, DType::F32, &Device::Cpu)?;
    for part in TEXTS {
        let positions = golden
            .get(&format!("{part}.rope.positions"))
            .to_vec1::<u32>()?;
        let rotated = table
            .at(&positions)?
            .rotate(golden.get(&format!("{part}.rope.x")))?;
        golden.check(&format!("{part}.rope.y"), &rotated);
    }
    Ok(())
}

#[test]
fn grouped_heads_with_and_without_softcap() -> Result<()> {
    let golden = Golden::load();
    let [q, k, v] = ["q", "k", "v"].map(|name| golden.get(&format!("attend.{name}")));
    for (name, softcap) in [("plain", None), ("softcap", Some(1.5))] {
        let scoring = Scoring {
            scale: 0.3,
            softcap,
        };
        let all = attend_all(q, k, v, None, scoring)?;
        golden.check(&format!("attend.{name}.all"), &all);

        let by_slot = |x: &Tensor| x.transpose(0, 1)?.contiguous()?.unsqueeze(0);
        let last = q.narrow(0, 6, 1)?.reshape((1, 2, 2, 16))?;
        // What the golden's mask leaves.
        let seen = SeenKeys::new(std::iter::once(2..6).collect(), 7, &Device::Cpu)?;
        let one = attend_cached(&last, &by_slot(k)?, &by_slot(v)?, &seen, scoring)?;
        golden.check(&format!("attend.{name}.cached"), &one);
    }
    Ok(())
}

#[test]
fn siglip_layer_and_its_parts() -> Result<()> {
    let golden = Golden::load();
    let weights = golden.weights("siglip");
    let x = golden.get("siglip.x").flatten_to(1)?;
    let check = |name: &str, y: &Tensor| -> Result<()> {
        golden.check(&format!("siglip.{name}"), &y.reshape((2, 9, HIDDEN))?);
        Ok(())
    };
    let batch = Batch::of_images(2, 9);
    let norm = LayerNorm::load(&weights.pp("layer_norm1"), HIDDEN, 1e-6)?;
    check("norm.y", &norm.forward(&x)?)?;
    let identity = Tensor::eye(HIDDEN, DType::F32, &Device::Cpu)?;
    let no_bias = Tensor::zeros(HIDDEN, DType::F32, &Device::Cpu)?;
    let identity = Linear::of(&weights, identity, no_bias)?;
    check("gelu.y", &identity.forward_gelu(&x, &batch)?)?;
    let attention = ImageAttention::load(&weights.pp("self_attn"), HIDDEN, 4)?;
    let nothing = x.zeros_like()?;
    check("attention.y", &attention.forward_add(&x, &nothing, &batch)?)?;
    let config = VisionConfig {
        image_size: 42,
        patch_size: 14,
        hidden_size: HIDDEN,
        intermediate_size: MLP,
        layers: 1,
        heads: 4,
        layer_norm_eps: 1e-6,
    };
    let layer = EncoderLayer::load(&weights, &config)?;
    check("y", &layer.forward(&x, &batch)?)
}
