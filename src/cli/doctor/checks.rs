//! Whether layers of real dimensions and the demo model come out as on a processor in f32.

use candle_core::{DType, Device, Result, Tensor};
use paligemma_server::kernels::{Epilogue, GraphChoice, LowRank, Matmul, Outputs, Update};
use paligemma_server::layers::{Batch, DecodeLayout, DecodeRow, KvCache, PrefixRows, RopeTable};
use paligemma_server::models::config::TextConfig;
use paligemma_server::models::gemma::DecoderLayer;
use paligemma_server::models::siglip::EncoderLayer;
use paligemma_server::models::{Pretrained, Question, WeightFormat, greedy, waves};

use super::random_model::{Shape, noise, weights};
use super::report::Report;

/// Rows of a prefix, rows that decode together, and images.
const PREFIX: usize = 275;
const DECODING: usize = 5;
const IMAGES: usize = 2;

/// Tokens of each of the demo's answers.
const ANSWER: usize = 24;

/// Compares everything in f32 and in `format` on `device` with f32 on the processor.
pub fn run(
    report: &mut Report,
    device: &Device,
    format: WeightFormat,
    graphs: GraphChoice,
) -> anyhow::Result<()> {
    report.heading("Whether it computes rightly, compared with f32 on the processor");
    let mut formats = vec![WeightFormat::F32];
    if format != WeightFormat::F32 {
        formats.push(format);
    }
    // Whose kernels are ours on every card.
    if device.is_cuda() && format != WeightFormat::Q8_0 {
        formats.push(WeightFormat::Q8_0);
    }
    for (name, shape) in [("Gemma", Shape::PaliGemma), ("Gemma 2", Shape::PaliGemma2)] {
        let config = shape.config().text;
        let right = decoder_layer(&config, &Device::Cpu, WeightFormat::F32)?;
        for &format in &formats {
            let here = decoder_layer(&config, device, format)?;
            for ((what, here), (_, right)) in here.iter().zip(&right) {
                let name = format!("{name}'s layer in {format}, {what}");
                report.check(name, distance(here, right)?, tolerance(format));
            }
        }
    }
    let right = encoder_layer(&Device::Cpu, WeightFormat::F32)?;
    for &format in &formats {
        let here = encoder_layer(device, format)?;
        let name = format!("SigLIP's layer in {format}, {IMAGES} images");
        report.check(name, distance(&here, &right)?, tolerance(format));
    }
    let right = adapted_product(&Device::Cpu, WeightFormat::F32)?;
    for &format in &formats {
        let here = adapted_product(device, format)?;
        let name = format!("what adapters add in {format}");
        report.check(name, distance(&here, &right)?, tolerance(format));
    }
    demo(report, device, &formats, graphs)
}

/// How far a layer may be off, relative to its output.
fn tolerance(format: WeightFormat) -> f64 {
    match format {
        WeightFormat::F32 => 1e-4,
        WeightFormat::Bf16 | WeightFormat::Q8_0 => 3e-2,
        WeightFormat::Q4K => 2e-1,
    }
}

/// `‖here - right‖ / ‖right‖`.
fn distance(here: &Tensor, right: &Tensor) -> Result<f64> {
    let square = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f32>();
    let difference = square(&(here - right)?)?;
    Ok(f64::from(difference / square(right)?).sqrt())
}

/// To f32 in the processor's memory.
fn on_cpu(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)?.to_device(&Device::Cpu)
}

/// A layer's outputs for prefixes, for rows that decode after them, and for a prefix and such rows in one step.
fn decoder_layer(
    config: &TextConfig,
    device: &Device,
    format: WeightFormat,
) -> Result<Vec<(&'static str, Tensor)>> {
    let dtype = format.activation_dtype();
    let layer = DecoderLayer::load(&weights(device, format).pp("layer"), config, 0)?;
    let rope = RopeTable::new(1024, config.head_dim, config.rope_theta, dtype, device)?;
    let cache = KvCache::new(config.cache_shape(2 * DECODING, 512), dtype, device)?;
    let prefixes = |slots: std::ops::Range<usize>| -> Result<(Tensor, Batch)> {
        let mut start = 0;
        let (mut rows, mut positions) = (Vec::new(), Vec::new());
        for slot in slots {
            let len = PREFIX - slot;
            rows.push(PrefixRows {
                slot,
                start,
                len,
                masks: None,
            });
            start += len;
            positions.extend(0..len as u32);
        }
        let x = noise(start * config.hidden_size, rows[0].slot, device)?
            .to_dtype(dtype)?
            .reshape((start, config.hidden_size))?;
        let rope = rope.at(&positions)?;
        Ok((x, Batch::of_prefixes(rows, rope, config.kv_heads, device)?))
    };
    let mut outputs = Vec::new();
    let (x, batch) = prefixes(0..DECODING)?;
    let y = layer.forward(&x, &batch, cache.layer(0))?;
    outputs.push(("prefixes", on_cpu(&y)?));
    let rows: Vec<DecodeRow> = (0..DECODING)
        .map(|slot| DecodeRow {
            slot,
            position: PREFIX - slot,
            token: 0,
            adapter: None,
        })
        .collect();
    let positions: Vec<u32> = rows.iter().map(|row| row.position as u32).collect();
    let layout = DecodeLayout::new(&rows, &cache, config.window(), device)?;
    let decoding = Batch::of_decode(layout, rope.at(&positions)?);
    let tokens = noise(DECODING * config.hidden_size, 99, device)?
        .to_dtype(dtype)?
        .reshape((DECODING, config.hidden_size))?;
    let y = layer.forward(&tokens, &decoding, cache.layer(0))?;
    outputs.push(("rows that decode", on_cpu(&y)?));
    let (x, batch) = prefixes(DECODING..DECODING + 1)?;
    let batch = batch.with_decode(&decoding, device)?;
    let x = Tensor::cat(&[&x, &tokens], 0)?;
    let y = layer.forward_last(&x, &batch, cache.layer(0))?;
    outputs.push(("the last of a prefix and rows that decode", on_cpu(&y)?));
    let one = DecodeLayout::new(&rows[..1], &cache, config.window(), device)?;
    let one = Batch::of_decode(one, rope.at(&positions[..1])?);
    let y = layer.forward(&tokens.narrow(0, 0, 1)?, &one, cache.layer(0))?;
    outputs.push(("a row that decodes alone", on_cpu(&y)?));
    Ok(outputs)
}

fn encoder_layer(device: &Device, format: WeightFormat) -> Result<Tensor> {
    let config = Shape::PaliGemma.config().vision;
    let layer = EncoderLayer::load(&weights(device, format).pp("layer"), &config)?;
    let rows = IMAGES * config.patches();
    let x = noise(rows * config.hidden_size, 1, device)?
        .to_dtype(format.activation_dtype())?
        .reshape((rows, config.hidden_size))?;
    on_cpu(&layer.forward(&x, &Batch::of_images(IMAGES, config.patches()))?)
}

/// A product with what two adapters add to rows of theirs, beside rows of none.
fn adapted_product(device: &Device, format: WeightFormat) -> Result<Tensor> {
    const IN: usize = 2048;
    const OUT: usize = 2560;
    let weight = noise(OUT * IN, 1, &format.read_device(device))?.reshape((OUT, IN))?;
    let weight = (weight * 0.02)?.to_dtype(format.read_dtype())?;
    let weight = Matmul::new(vec![weight], Outputs::SideBySide, format, device)?;
    let low_rank = |ranks: usize| {
        let down = (noise(ranks * IN, 2, &Device::Cpu)?.reshape((ranks, IN))? * 0.02)?;
        let up = noise(OUT * ranks, 3, &Device::Cpu)?.reshape((OUT, ranks))?;
        LowRank::new(down, &up, None, &weight, format, device)
    };
    let x = noise(5 * IN, 4, device)?.reshape((5, IN))?;
    let x = x.to_dtype(format.activation_dtype())?;
    let adapters = [(low_rank(16)?, [0u32, 3].as_slice()), (low_rank(8)?, &[1])];
    let ids = adapters
        .each_ref()
        .map(|(_, rows)| Tensor::new(*rows, device));
    let [first, second] = ids;
    let ids = [first?, second?];
    let updates = adapters
        .iter()
        .zip(&ids)
        .map(|((low_rank, rows), ids)| Update {
            rows,
            ids,
            low_rank,
            x: &x,
            many: 0,
        });
    let updates: Vec<_> = updates.collect();
    let epilogue = Epilogue {
        updates: &updates,
        ..Epilogue::default()
    };
    on_cpu(&weight.forward(&x, None, 0, epilogue)?)
}

/// The demo's tokens: in f32 the processor's, alone and together; in other formats nearly.
fn demo(
    report: &mut Report,
    device: &Device,
    formats: &[WeightFormat],
    graphs: GraphChoice,
) -> anyhow::Result<()> {
    let demo = Pretrained::demo()?;
    let side = demo.config.vision.image_size;
    let prompts = [
        "caption en",
        "detect red circle",
        "how many shapes are there?",
    ];
    let questions = prompts
        .iter()
        .enumerate()
        .map(|(index, prompt)| {
            Ok(Question {
                pixels: waves(side, index),
                prompt: demo
                    .tokenizer
                    .encode_prompt(prompt)
                    .map_err(anyhow::Error::from_boxed)?,
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let right = demo.load(&Device::Cpu, WeightFormat::F32)?;
    let right = greedy(&right, &questions, ANSWER, None)?.tokens;
    for &format in formats {
        let mut model = demo.load(device, format)?;
        model.record_steps(graphs)?;
        let together = greedy(&model, &questions, ANSWER, Some(&right))?.tokens;
        let mut alone = Vec::new();
        for (question, right) in questions.iter().zip(&right) {
            let question = std::slice::from_ref(question);
            let forced = std::slice::from_ref(right);
            alone.extend(greedy(&model, question, ANSWER, Some(forced))?.tokens);
        }
        let allowed = match format {
            WeightFormat::F32 => 0.0,
            _ => 0.1,
        };
        for (what, tokens) in [("together", &together), ("one by one", &alone)] {
            let name = format!("the demo's tokens in {format}, {what}");
            report.check(name, share_of_others(tokens, &right), allowed);
        }
    }
    Ok(())
}

/// What part of the tokens are others than the right ones.
fn share_of_others(tokens: &[Vec<u32>], right: &[Vec<u32>]) -> f64 {
    let pairs = || tokens.iter().flatten().zip(right.iter().flatten());
    pairs().filter(|(a, b)| a != b).count() as f64 / pairs().count() as f64
}
