//! Writes a valid checkpoint with random weights and a synthetic tokenizer of the right size, to
//! measure speed and memory at full size without real weights. Its answers mean nothing.
//!
//! ```text
//! cargo run --release --example random_checkpoint -- --shape paligemma-3b-224 --out DIR
//! cargo run --release --example random_checkpoint -- --shape tiny --out DIR --adapters 2    and DIR/adapter-1, -2
//! ```

mod adapters;
mod tensors;
mod tokenizer;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use safetensors::tensor::serialize_to_file;
use serde_json::{Value, json};

#[derive(Parser)]
#[command(about = "Writes a checkpoint with random weights, for measurements")]
struct Args {
    /// Which model's dimensions
    #[arg(long)]
    shape: Shape,
    /// The folder to write to; created if it doesn't exist
    #[arg(long)]
    out: PathBuf,
    /// How many LoRA adapters to write, into folders of it named adapter-1 and so on
    #[arg(long, default_value_t = 0)]
    adapters: usize,
    /// The adapters' rank
    #[arg(long, default_value_t = 16)]
    rank: usize,
    /// How many layers each tower has, instead of the shape's
    #[arg(long)]
    layers: Option<usize>,
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
    /// Like the published one, but narrow: heads, key heads and multiples of a quantised block
    #[value(name = "paligemma-narrow")]
    PaliGemmaNarrow,
    #[value(name = "paligemma2-narrow")]
    PaliGemma2Narrow,
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
        let narrow = |text_model_type, kv_heads| Dimensions {
            text_model_type,
            vocab_rows: 4096,
            tokens: 4033,
            text: tower(256, 512, 4, 8),
            kv_heads,
            head_dim: 32,
            vision: tower(128, 192, 4, 16),
            image_size: 224,
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
            Self::PaliGemmaNarrow => narrow("gemma", 1),
            Self::PaliGemma2Narrow => narrow("gemma2", 4),
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut dimensions = args.shape.dimensions();
    if let Some(layers) = args.layers {
        (dimensions.text.layers, dimensions.vision.layers) = (layers, layers);
    }
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    write_json(&args.out, "config.json", &config(&dimensions))?;
    write_json(
        &args.out,
        "tokenizer.json",
        &tokenizer::tokenizer(&dimensions),
    )?;
    write_json(
        &args.out,
        "tokenizer_config.json",
        &json!({"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}),
    )?;
    let path = args.out.join("model.safetensors");
    let tensors = tensors::tensors(&dimensions);
    let parameters: usize = tensors.iter().map(|(_, tensor)| tensor.len()).sum();
    for number in 1..=args.adapters {
        let folder = args.out.join(format!("adapter-{number}"));
        adapters::write(&folder, &tensors, args.rank, number)?;
    }
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
