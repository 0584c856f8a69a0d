//! Writes a valid checkpoint with random weights and a synthetic tokenizer of the right size, for
//! measurements at full size without anyone's weights. What it answers means nothing.
//!
//! ```text
//! cargo run --release --example random_checkpoint -- --shape paligemma-3b-224 --out DIR
//! ```

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use half::bf16;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use safetensors::tensor::{Dtype, View, serialize_to_file};
use serde_json::{Map, Value, json};

#[derive(Parser)]
#[command(about = "Writes a checkpoint with random weights, for measurements")]
struct Args {
    /// Which model's dimensions
    #[arg(long)]
    shape: Shape,
    /// The folder to write to; it is made when it is not there
    #[arg(long)]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shape {
    #[value(name = "paligemma-3b-224")]
    PaliGemma3b224,
    #[value(name = "paligemma2-3b-224")]
    PaliGemma2Small224,
    #[value(name = "paligemma2-3b-448")]
    PaliGemma2Small448,
    #[value(name = "tiny")]
    Tiny,
}

/// A model's dimensions, named as in config.json.
struct Dimensions {
    text_model_type: &'static str,
    vocab_rows: usize,
    tokens: usize,
    text: Tower,
    kv_heads: usize,
    head_dim: usize,
    vision: Tower,
    image_size: usize,
    patch_size: usize,
}

struct Tower {
    hidden: usize,
    mlp: usize,
    layers: usize,
    heads: usize,
}

impl Shape {
    fn dimensions(self) -> Dimensions {
        let so400m = || Tower {
            hidden: 1152,
            mlp: 4304,
            layers: 27,
            heads: 16,
        };
        let tower = |hidden, mlp, layers, heads| Tower {
            hidden,
            mlp,
            layers,
            heads,
        };
        let paligemma2 = |image_size| Dimensions {
            text_model_type: "gemma2",
            vocab_rows: 257_216,
            tokens: 257_153,
            text: tower(2304, 9216, 26, 8),
            kv_heads: 4,
            head_dim: 256,
            vision: so400m(),
            image_size,
            patch_size: 14,
        };
        match self {
            Self::PaliGemma3b224 => Dimensions {
                text_model_type: "gemma",
                text: tower(2048, 16384, 18, 8),
                kv_heads: 1,
                ..paligemma2(224)
            },
            Self::PaliGemma2Small224 => paligemma2(224),
            Self::PaliGemma2Small448 => paligemma2(448),
            Self::Tiny => Dimensions {
                text_model_type: "gemma2",
                vocab_rows: 4096,
                tokens: 4033,
                text: tower(128, 256, 4, 4),
                kv_heads: 2,
                head_dim: 32,
                vision: tower(96, 192, 3, 4),
                image_size: 112,
                patch_size: 14,
            },
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let dimensions = args.shape.dimensions();
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    write_json(&args.out, "config.json", &config(&dimensions))?;
    write_json(&args.out, "tokenizer.json", &tokenizer(&dimensions))?;
    write_json(
        &args.out,
        "tokenizer_config.json",
        &json!({"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}),
    )?;
    let path = args.out.join("model.safetensors");
    let tensors = tensors(&dimensions);
    let parameters: usize = tensors.iter().map(|(_, tensor)| tensor.len()).sum();
    serialize_to_file(tensors, None, &path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!(
        "{}: {:.2} M random parameters in bf16",
        args.out.display(),
        parameters as f64 / 1e6
    );
    Ok(())
}

fn write_json(folder: &Path, name: &str, value: &Value) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, serde_json::to_vec(value)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn config(d: &Dimensions) -> Value {
    json!({
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "model_type": "paligemma",
        "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
        "image_token_index": d.tokens - 1,
        "hidden_size": 2048,
        "projection_dim": d.text.hidden,
        "torch_dtype": "bfloat16",
        "text_config": {
            "model_type": d.text_model_type,
            "vocab_size": d.vocab_rows,
            "hidden_size": d.text.hidden,
            "intermediate_size": d.text.mlp,
            "num_hidden_layers": d.text.layers,
            "num_attention_heads": d.text.heads,
            "num_key_value_heads": d.kv_heads,
            "head_dim": d.head_dim,
            "query_pre_attn_scalar": d.head_dim,
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "image_size": d.image_size,
            "patch_size": d.patch_size,
            "hidden_size": d.vision.hidden,
            "intermediate_size": d.vision.mlp,
            "num_hidden_layers": d.vision.layers,
            "num_attention_heads": d.vision.heads,
        },
    })
}

/// A byte-fallback BPE in Gemma's form whose pieces are letters, pairs and fours of letters.
fn tokenizer(d: &Dimensions) -> Value {
    let mut vocab = Map::new();
    let mut merges = Vec::new();
    let mut add = |piece: String| {
        let id = vocab.len();
        vocab.entry(piece).or_insert(json!(id));
    };
    let specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"];
    specials.iter().for_each(|token| add(token.to_string()));
    (0..=255).for_each(|byte| add(format!("<0x{byte:02X}>")));
    ["\n", "\n\n", "▁"]
        .iter()
        .for_each(|piece| add(piece.to_string()));
    let letters: Vec<String> = (' '..='~').skip(1).map(String::from).collect();
    letters.iter().cloned().for_each(&mut add);

    let words = d.tokens - 1 - 1024 - 128;
    let lower: Vec<String> = ('a'..='z').map(String::from).collect();
    let starts = [vec!["▁".to_owned()], lower.clone()].concat();
    let pairs: Vec<(String, String)> = starts
        .iter()
        .flat_map(|a| lower.iter().map(move |b| (a.clone(), b.clone())))
        .collect();
    let fours = pairs
        .iter()
        .flat_map(|(a, b)| {
            pairs
                .iter()
                .map(move |(c, d)| (format!("{a}{b}"), format!("{c}{d}")))
        })
        .filter(|(_, second)| !second.starts_with('▁'));
    let free = words - 5 - 256 - 3 - letters.len();
    merges.push(json!(["\n", "\n"]));
    for (left, right) in pairs.iter().cloned().chain(fours).take(free) {
        add(format!("{left}{right}"));
        merges.push(json!([left, right]));
    }
    (0..1024).for_each(|i| add(format!("<loc{i:04}>")));
    (0..128).for_each(|i| add(format!("<seg{i:03}>")));
    add("<image>".to_owned());

    let added: Vec<Value> = vocab
        .iter()
        .filter_map(|(content, id)| {
            let special = specials.contains(&content.as_str()) || content == "<image>";
            let coordinate = content.starts_with("<loc") || content.starts_with("<seg");
            (special || coordinate).then(|| {
                json!({
                    "id": id, "content": content, "special": special, "normalized": false,
                    "single_word": false, "lstrip": false, "rstrip": false,
                })
            })
        })
        .collect();
    json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ]},
        "model": {
            "type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true,
            "vocab": vocab, "merges": merges,
        },
    })
}

/// A tensor that is made when it is written.
struct RandomTensor {
    shape: Vec<usize>,
    mean: f32,
    deviation: f32,
    seed: u64,
}

impl RandomTensor {
    fn len(&self) -> usize {
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

    /// A block of random values, repeated from another place each time: making billions of values
    /// one by one would take minutes.
    fn data(&self) -> Cow<'_, [u8]> {
        const BLOCK: usize = 1 << 20;
        let mut rng = StdRng::seed_from_u64(self.seed);
        let block: Vec<u8> = (0..BLOCK.min(self.len()))
            .flat_map(|_| {
                // Uniform with the wanted deviation.
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
fn tensors(d: &Dimensions) -> Vec<(String, RandomTensor)> {
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize], mean: f32, deviation: f32| {
        let seed = tensors.len() as u64;
        let shape = shape.to_vec();
        tensors.push((
            name,
            RandomTensor {
                shape,
                mean,
                deviation,
                seed,
            },
        ));
    };
    let fan = |inputs: usize| (inputs as f32).powf(-0.5);
    // Layers must outweigh the embeddings that run past them, or, since the token table is also the
    // output layer, every token is followed by itself.
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
