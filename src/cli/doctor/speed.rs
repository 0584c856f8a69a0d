//! How fast a model of real dimensions is here, and how fast memory would allow it to be.

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result, Tensor, bail};
use paligemma_server::kernels::{GraphChoice, is_out_of_memory, likeliest};
use paligemma_server::models::{
    DecodeRow, EVERYTHING, KvCache, Model, PaliGemma, Picture, Prefix, WeightFormat, reason, waves,
};
use rayon::prelude::*;

use super::random_model::{Shape, VOCAB};
use super::report::{Report, median};
use super::{answers, kernels};

/// Requests that are measured together.
const TOGETHER: [usize; 3] = [1, 8, 64];
/// The most that a processor is asked: more would take minutes.
const MOST_ON_CPU: usize = 8;

/// Tokens of the prompt, and room for the answer.
const PROMPT: usize = 16;
const CONTEXT: usize = 256 + 512;

/// Measures copying memory, and each stage of a model with random weights.
pub fn measure(
    report: &Report,
    device: &Device,
    format: WeightFormat,
    graphs: GraphChoice,
    shape: Shape,
) -> Result<()> {
    let per_byte = seconds_per_byte(report, device)?;
    if device.is_cuda() {
        kernels::measure(report, device, format, per_byte)?;
    }
    let began = Instant::now();
    let mut model = shape.load(device, format)?;
    model.record_steps(graphs)?;
    device.synchronize()?;
    report.time(
        "making the model",
        vec![began.elapsed().as_secs_f64()],
        "s",
        None,
    );
    let limit = Some(read_bytes(shape, format) * per_byte * 1e3);
    for together in TOGETHER {
        if device.is_cpu() && together > MOST_ON_CPU {
            continue;
        }
        let rounds = if device.is_cpu() { 3 } else { 7 };
        let stages = match Stages::measure(&model, together, rounds) {
            Err(error) if is_out_of_memory(&reason(&error)) => {
                report.left_out(format!("{together} together"), "the memory is full");
                continue;
            }
            measured => measured?,
        };
        let name = |stage: &str| format!("{stage}, {together} together");
        report.time(name("vision"), stages.encode, "ms", None);
        report.time(name("prefill"), stages.prefill, "ms", None);
        if device.is_cuda() {
            report.time(name("decoding a token, queued"), stages.queued, "ms", None);
        }
        let rate = |milliseconds: &f64| 1e3 * together as f64 / milliseconds;
        let rates = stages.decode.iter().map(rate).collect();
        report.time(name("decoding a token"), stages.decode, "ms", limit);
        report.rate(name("tokens of answers"), rates, "tokens/s");
        report.time(name("choosing a token"), stages.choose, "ms", None);
    }
    answers::recording(report, &model, "of the 3B model");
    Ok(())
}

/// How long memory takes for a byte.
fn seconds_per_byte(report: &Report, device: &Device) -> Result<f64> {
    let (what, rates) = match device.is_cuda() {
        true => ("copying memory, read and written", copy(device)?),
        false => ("reading memory", read()),
    };
    let median = median(&rates);
    report.rate(what, rates, "GB/s");
    Ok(1e-9 / median)
}

/// Bytes that a token must read at least: the decoder's weights, and the token table as the last
/// product.
fn read_bytes(shape: Shape, format: WeightFormat) -> f64 {
    let text = shape.config().text;
    let heads = (2 * text.heads + 2 * text.kv_heads) * text.head_dim;
    let layer = text.hidden_size * (heads + 3 * text.intermediate_size);
    let layers = (text.layers() * layer) as f64;
    let table = (text.vocab_size * text.hidden_size) as f64;
    layers * format.bytes_per_weight() + table * format.for_token_table().bytes_per_weight()
}

/// Gigabytes that are read and written in a GPU's memory each second.
fn copy(device: &Device) -> Result<Vec<f64>> {
    let bytes = 2048usize << 20;
    let from = Tensor::zeros(bytes / 4, DType::F32, device)?;
    let mut rates = Vec::new();
    for _ in 0..8 {
        device.synchronize()?;
        let began = Instant::now();
        let copied = from.copy()?;
        device.synchronize()?;
        rates.push((2 * bytes) as f64 * 1e-9 / began.elapsed().as_secs_f64());
        drop(copied);
    }
    Ok(rates)
}

/// Gigabytes that all cores read from a processor's memory each second.
fn read() -> Vec<f64> {
    let memory = vec![1u64; 1 << 27];
    let round = || {
        let began = Instant::now();
        let parts = memory.par_chunks(1 << 16);
        black_box(parts.map(|part| part.iter().sum::<u64>()).sum::<u64>());
        8.0 * memory.len() as f64 * 1e-9 / began.elapsed().as_secs_f64()
    };
    (0..8).map(|_| round()).collect()
}

/// Milliseconds of each stage, for all requests that are measured together.
#[derive(Default)]
struct Stages {
    encode: Vec<f64>,
    prefill: Vec<f64>,
    /// Until the host has told the device all of a step.
    queued: Vec<f64>,
    decode: Vec<f64>,
    choose: Vec<f64>,
}

impl Stages {
    fn measure(model: &PaliGemma, together: usize, rounds: usize) -> Result<Self> {
        let mut stages = Self::default();
        let mut cache = model.new_cache(together, CONTEXT)?;
        // The first round is not counted: it loads what is needed for the first time.
        for round in 0..=rounds {
            let measured = stages.round(model, &mut cache, together, round)?;
            if round > 0 {
                measured.add_to(&mut stages);
            }
        }
        Ok(stages)
    }

    fn add_to(self, all: &mut Self) {
        all.encode.extend(self.encode);
        all.prefill.extend(self.prefill);
        all.queued.extend(self.queued);
        all.decode.extend(self.decode);
        all.choose.extend(self.choose);
    }

    fn round(
        &self,
        model: &PaliGemma,
        cache: &mut KvCache,
        together: usize,
        round: usize,
    ) -> Result<Self> {
        let pictures: Vec<Vec<u8>> = (0..together)
            .map(|index| waves(224, index + round * together))
            .collect();
        let pictures: Vec<Picture<'_>> = pictures
            .iter()
            .map(|pixels| Picture::from(pixels.as_slice()))
            .collect();
        let mut stages = Self::default();

        let began = Instant::now();
        let mut encode = model.begin_encode(&pictures)?;
        model.advance_encode(&mut encode, EVERYTHING)?;
        let features = model.finish_encode(encode)?;
        model.device().synchronize()?;
        stages.encode.push(milliseconds(began.elapsed()));

        let prompt = vec![7u32; PROMPT];
        let prefixes: Vec<Prefix<'_>> = features
            .iter()
            .enumerate()
            .map(|(slot, features)| Prefix {
                slot,
                adapter: None,
                features,
                tokens: &prompt,
                generated: &[],
            })
            .collect();
        let began = Instant::now();
        let mut prefill = model.begin_prefill(&prefixes)?;
        let output = model.step(cache, Some((&mut prefill, EVERYTHING)), &[])?;
        let mut tokens = choose(output.logits)?;
        stages.prefill.push(milliseconds(began.elapsed()));

        for step in 0..8 {
            let position = model.image_tokens() + PROMPT + step;
            let rows: Vec<DecodeRow> = tokens
                .iter()
                .enumerate()
                .map(|(slot, &token)| DecodeRow {
                    slot,
                    position,
                    token,
                    adapter: None,
                })
                .collect();
            let began = Instant::now();
            let output = model.step(cache, None, &rows)?;
            stages.queued.push(milliseconds(began.elapsed()));
            model.device().synchronize()?;
            let computed = began.elapsed();
            tokens = choose(output.logits)?;
            stages.decode.push(milliseconds(began.elapsed()));
            stages.choose.push(milliseconds(began.elapsed() - computed));
        }
        Ok(stages)
    }
}

fn choose(logits: Option<Tensor>) -> Result<Vec<u32>> {
    let Some(logits) = logits else {
        bail!("a step gave no logits")
    };
    let rows = logits.dim(0)?;
    let chosen = likeliest(&logits, &vec![None; rows])?;
    // Random weights may choose any token, and every one of them is a token.
    Ok(chosen.iter().map(|row| row.id % VOCAB as u32).collect())
}

fn milliseconds(duration: Duration) -> f64 {
    1e3 * duration.as_secs_f64()
}
