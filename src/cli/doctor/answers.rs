//! Tokens: those of an answer, and those that a row of logits makes likeliest.

use anyhow::anyhow;
use candle_core::{Device, Result, Tensor, bail};
use paligemma_server::kernels::{GraphChoice, Report as Wanted, likeliest};
use paligemma_server::models::{PaliGemma, Pretrained, Question, Recording, WeightFormat, greedy};
use paligemma_server::pixels::{ImageLimits, Preprocessor};
use serde::Deserialize;

use super::random_model::{VOCAB, noise};
use super::report::Report;

/// Made by tools/goldens/make_doctor_goldens.py.
const GOLDENS: &str = include_str!("goldens.json");
const PICTURES: [(&str, &[u8]); 4] = [
    (
        "red-circle.png",
        include_bytes!("../../../examples/images/red-circle.png"),
    ),
    (
        "circle-and-square.jpg",
        include_bytes!("../../../examples/images/circle-and-square.jpg"),
    ),
    (
        "three-hearts.png",
        include_bytes!("../../../examples/images/three-hearts.png"),
    ),
    (
        "four-shapes.png",
        include_bytes!("../../../examples/images/four-shapes.png"),
    ),
];

/// What transformers answers for the demo.
#[derive(Deserialize)]
struct Golden {
    image: String,
    prompt: String,
    tokens: Vec<u32>,
}

/// The demo's tokens for the recorded questions, together and one by one: in f32 the recorded ones, in other
/// formats nearly. Decode steps are recorded as `graphs` says.
pub fn check(
    report: &Report,
    device: &Device,
    format: WeightFormat,
    graphs: GraphChoice,
) -> anyhow::Result<()> {
    let demo = Pretrained::demo()?;
    let goldens: Vec<Golden> = serde_json::from_str(GOLDENS)?;
    let questions = goldens.iter().map(|golden| question(&demo, golden));
    let questions = questions.collect::<anyhow::Result<Vec<_>>>()?;
    let right: Vec<_> = goldens.into_iter().map(|golden| golden.tokens).collect();
    let mut model = demo.load(device, format)?;
    model.record_steps(graphs)?;
    let together = answers(&model, &questions, &right)?;
    let mut alone = Vec::new();
    for (question, right) in questions.iter().zip(&right) {
        let question = std::slice::from_ref(question);
        alone.extend(answers(&model, question, std::slice::from_ref(right))?);
    }
    let allowed = match format {
        WeightFormat::F32 => 0.0,
        _ => 0.1,
    };
    for (what, here, right) in [
        ("together", &together, &right),
        ("one by one", &alone, &right),
        ("one by one and together", &alone, &together),
    ] {
        let name = format!("the demo's tokens in {format}, {what}");
        report.distance(name, share_of_others(here, right), allowed);
    }
    recording(report, &model, format);
    Ok(())
}

fn question(demo: &Pretrained, golden: &Golden) -> anyhow::Result<Question> {
    let picture = PICTURES.iter().find(|(name, _)| *name == golden.image);
    let (_, bytes) = picture.ok_or_else(|| anyhow!("{} is not at hand", golden.image))?;
    let limits = ImageLimits {
        max_side: 4096,
        max_pixels: 1 << 24,
        memory: 1 << 30,
    };
    let side = u32::try_from(demo.config.vision.image_size)?;
    let prompt = demo.tokenizer.encode_prompt(&golden.prompt);
    Ok(Question {
        pixels: Preprocessor::new(side, limits, 1)
            .prepare_blocking(bytes)?
            .data,
        prompt: prompt.map_err(anyhow::Error::from_boxed)?,
    })
}

/// The tokens that a model would choose after each of the right ones.
fn answers(model: &PaliGemma, questions: &[Question], right: &[Vec<u32>]) -> Result<Vec<Vec<u32>>> {
    let steps = right.iter().map(Vec::len).min().unwrap_or(0);
    Ok(greedy(model, questions, steps, Some(right))?.tokens)
}

/// What part of the tokens are others than the right ones.
fn share_of_others(tokens: &[Vec<u32>], right: &[Vec<u32>]) -> f64 {
    let pairs = || tokens.iter().flatten().zip(right.iter().flatten());
    pairs().filter(|(a, b)| a != b).count() as f64 / pairs().count() as f64
}

/// Whether decode steps were recorded, if they were to be.
pub fn recording(report: &Report, model: &PaliGemma, what: impl std::fmt::Display) {
    let name = format!("recorded decode steps, {what}");
    match model.recording() {
        Recording::Off => {}
        Recording::On { steps: 0 } => report.fails(name, "none was recorded"),
        Recording::On { steps } => report.holds(name, format!("{steps} recorded")),
        Recording::Differs => {
            report.fails(name, "give other numbers than steps that are not recorded")
        }
        Recording::Failed(reason) => report.fails(name, reason),
    }
}

/// What part of the likeliest tokens of a whole vocabulary are others than those that were made so, of which
/// pairs are equally likely.
pub fn likeliest_tokens(device: &Device) -> Result<f64> {
    const TOP: usize = 64;
    // Neither in order, nor near each other; twice as many as are asked for.
    let planted: Vec<u32> = (0..2 * TOP).map(|i| (i * 40_009 % VOCAB) as u32).collect();
    let mut logits = noise(VOCAB, 5, &Device::Cpu)?.to_vec1::<f32>()?;
    for (place, &id) in planted.iter().enumerate() {
        logits[id as usize] = 20.0 - (place / 2) as f32 / 8.0;
    }
    let mut right = planted;
    right.sort_by(|&a, &b| {
        let values = logits[b as usize].total_cmp(&logits[a as usize]);
        values.then(a.cmp(&b))
    });
    let row = Tensor::new(logits, device)?.reshape((1, VOCAB))?;
    // The same row twice, so that a row's beginning is not the tensor's.
    let logits = Tensor::cat(&[&row, &row], 0)?;
    let wanted = Wanted {
        top: TOP,
        ..Wanted::default()
    };
    let mut others = 0;
    for found in likeliest(&logits, &[None, Some(wanted)])? {
        others += usize::from(found.id != right[0]);
        if let Some(logprobs) = found.logprobs {
            let ids = logprobs.top.iter().map(|(id, _)| id);
            others += ids.zip(&right).filter(|(a, b)| a != b).count();
            if logprobs.top.len() != TOP {
                bail!("{} tokens instead of {TOP}", logprobs.top.len());
            }
        }
    }
    Ok(others as f64 / (2 + TOP) as f64)
}
