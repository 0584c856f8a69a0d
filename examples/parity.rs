//! How often a device and a weight format choose the token that f32 chooses.
//!
//! With `--goldens` the reference is Hugging Face transformers, as recorded; with `--checkpoint` it
//! is this server's own model in f32 on the same device. Every sequence is fed the reference's
//! tokens, so that one different choice is counted only once.
//!
//! ```text
//! cargo run --release --example parity -- --goldens --dtype q8_0
//! cargo run --release --example parity -- --checkpoint DIR --dtype q8_0
//! ```

// Shared with the tests, which use more of it.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Parser;
use paligemma_server::kernels::{
    DeviceChoice, FormatChoice, GraphChoice, InstructionsChoice, Placement, choose_instructions,
};
use paligemma_server::models::{Pretrained, Question, WeightFormat, greedy, waves};
use paligemma_test_support::golden::Golden;

#[derive(Parser)]
#[command(about = "Compares greedy tokens of a weight format with f32")]
struct Args {
    /// Compare with the recorded answers in tests/goldens/model
    #[arg(long, required_unless_present = "checkpoint")]
    goldens: bool,
    /// A checkpoint to compare with its own f32 results
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    #[arg(long, default_value = "auto")]
    dtype: FormatChoice,
    /// As the setting `cpu_instructions`
    #[arg(long, default_value = "auto")]
    cpu_instructions: InstructionsChoice,
    /// Exit with 1 when a smaller share of tokens agrees
    #[arg(long, default_value_t = 0.0)]
    at_least: f64,
}

/// Tokens generated for each sequence.
const STEPS: usize = 24;

/// How many tokens agree, and how far the first step's logits are off.
#[derive(Default)]
struct Agreement {
    same: usize,
    all: usize,
    /// The largest difference of logits, relative to the largest logit beside it.
    error: f32,
    /// Absolute differences of log-probabilities.
    log_probability: Mean,
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Agreement {
    fn share(&self) -> f64 {
        self.same as f64 / self.all as f64
    }

    fn add(&mut self, other: Self) {
        self.same += other.same;
        self.all += other.all;
        self.error = self.error.max(other.error);
        self.log_probability.sum += other.log_probability.sum;
        self.log_probability.count += other.log_probability.count;
    }

    fn add_logits(&mut self, ours: &[f32], theirs: &[f32]) {
        let largest = theirs.iter().fold(0f32, |max, x| max.max(x.abs()));
        let difference = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
        self.error = self.error.max(difference.fold(0f32, f32::max) / largest);
        let pairs = log_probabilities(ours).zip(log_probabilities(theirs));
        self.log_probability.sum += pairs.map(|(a, b)| (a - b).abs()).sum::<f64>();
        self.log_probability.count += ours.len();
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let placement = Placement::resolve(args.device, args.dtype)?;
    choose_instructions(&placement, args.cpu_instructions)?;
    let mut total = Agreement::default();
    if args.goldens {
        for golden in Golden::all() {
            let agreement = against_golden(&golden, placement)?;
            report(&golden.name(), placement, &agreement);
            total.add(agreement);
        }
    }
    if let Some(folder) = &args.checkpoint {
        let agreement = against_f32(folder, placement)?;
        report(&folder.display().to_string(), placement, &agreement);
        total.add(agreement);
    }
    report("all", placement, &total);
    ensure!(
        total.share() >= args.at_least,
        "fewer than {} of the tokens agree",
        args.at_least
    );
    Ok(())
}

fn report(name: &str, placement: Placement, agreement: &Agreement) {
    println!(
        "{name}: {placement}: {} of {} greedy tokens agree ({:.2} %), first logits within {:.1e}, log-probabilities off by {:.1e} on average",
        agreement.same,
        agreement.all,
        100.0 * agreement.share(),
        agreement.error,
        agreement.log_probability.sum / agreement.log_probability.count as f64,
    );
}

fn against_golden(golden: &Golden, placement: Placement) -> Result<Agreement> {
    let checkpoint = Pretrained::open(&golden.folder)?;
    let model = checkpoint.load(&placement.open_device(GraphChoice::Off)?, placement.format)?;
    let sequences: Vec<Question> = golden
        .cases
        .iter()
        .map(|case| Question {
            pixels: golden.pixels(case.image),
            prompt: case.prompt_ids.clone(),
        })
        .collect();
    let forced: Vec<Vec<u32>> = golden
        .cases
        .iter()
        .map(|case| case.tokens.clone())
        .collect();
    let answers = greedy(&model, &sequences, STEPS, Some(&forced))?;
    let mut agreement = compare(&forced, &answers.tokens);
    for (case, ours) in golden.cases.iter().zip(&answers.first_logits) {
        agreement.add_logits(ours, &golden.logits(case)[..ours.len()]);
    }
    Ok(agreement)
}

fn against_f32(folder: &Path, placement: Placement) -> Result<Agreement> {
    let checkpoint = Pretrained::open(folder)?;
    let side = checkpoint.config.vision.image_size;
    let prompts = [
        "caption en",
        "answer en where is the cow standing?",
        "ocr",
        "detect cat ; dog ; a red car behind the house",
    ];
    let sequences = prompts
        .iter()
        .enumerate()
        .map(|(index, prompt)| {
            Ok(Question {
                pixels: waves(side, index),
                prompt: checkpoint
                    .tokenizer
                    .encode_prompt(prompt)
                    .map_err(anyhow::Error::from_boxed)?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let device = placement.open_device(GraphChoice::Off)?;
    // One after the other, because both at once may not fit in memory.
    let reference = {
        let model = checkpoint.load(&device, WeightFormat::F32)?;
        greedy(&model, &sequences, STEPS, None)?
    };
    let model = checkpoint.load(&device, placement.format)?;
    let answers = greedy(&model, &sequences, STEPS, Some(&reference.tokens))?;
    let mut agreement = compare(&reference.tokens, &answers.tokens);
    for (ours, theirs) in answers.first_logits.iter().zip(&reference.first_logits) {
        agreement.add_logits(ours, theirs);
    }
    Ok(agreement)
}

fn compare(reference: &[Vec<u32>], ours: &[Vec<u32>]) -> Agreement {
    let pairs = || reference.iter().flatten().zip(ours.iter().flatten());
    Agreement {
        same: pairs().filter(|(a, b)| a == b).count(),
        all: pairs().count(),
        ..Agreement::default()
    }
}

/// Natural logarithms of the softmax.
fn log_probabilities(logits: &[f32]) -> impl Iterator<Item = f64> {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x));
    let exponentials = logits.iter().map(|&x| f64::from(x - largest).exp());
    let normaliser = f64::from(largest) + exponentials.sum::<f64>().ln();
    logits.iter().map(move |&x| f64::from(x) - normaliser)
}
