//! `ask`: one prompt about one image, answered on the terminal.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use futures::StreamExt;
use paligemma_server::checkpoint::Placement;
use paligemma_server::engine::{
    EngineHandle, EngineOptions, Event, MaxTokens, Request, Sampling, State, Summary,
};
use paligemma_server::settings::Settings;
use paligemma_server::telemetry::logging;

use super::flags::SettingsFlags;
use super::model::{self, Source};

#[derive(clap::Args)]
pub struct Args {
    /// The picture: JPEG, PNG, WebP, GIF, BMP or TIFF.
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// The prompt as PaliGemma sees it, such as "caption en" or "answer en What is this?".
    prompt: String,
    #[command(flatten)]
    settings: SettingsFlags<true>,
}

/// Loads the model, answers, ends. The answer goes to stdout as it comes, its timing to stderr.
pub fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.settings.load()?;
    logging::init(settings.log_format, &settings.log_level)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(answer(&settings, args.image, args.prompt));
    runtime.shutdown_background();
    print_timing(&outcome?);
    Ok(())
}

async fn answer(settings: &Settings, image: PathBuf, prompt: String) -> anyhow::Result<Summary> {
    let placement = Placement::resolve(settings.device, settings.dtype)?;
    // Before the model is fetched, so that a wrong path is known at once.
    let bytes = std::fs::read(&image).with_context(|| format!("--image {}", image.display()))?;
    let checkpoint = Source::find(settings).await?.open()?;
    let pixels = model::preprocessor(settings, &checkpoint)
        .prepare(bytes.into())
        .await
        .with_context(|| format!("--image {}", image.display()))?;

    let options = EngineOptions {
        slots: 1,
        queue: 1,
        context: model::context(settings, &checkpoint)?,
        prefill_tokens_per_step: settings.prefill_tokens_per_step,
        image_cache_bytes: 0,
    };
    let engine = model::start_engine(checkpoint, placement, options);
    loaded(&engine).await?;
    let mut events = engine.submit(Request {
        image: Arc::new(pixels),
        prompt,
        max_tokens: MaxTokens::AtMost(settings.max_tokens_default),
        sampling: Sampling::greedy(),
        stop: Vec::new(),
        logprobs: None,
        deadline: None,
    })?;
    let mut stdout = std::io::stdout();
    while let Some(event) = events.next().await {
        match event {
            Event::Delta { text, .. } => {
                stdout.write_all(text.as_bytes())?;
                stdout.flush()?;
            }
            Event::Finished(summary) => {
                writeln!(stdout)?;
                return Ok(summary);
            }
            Event::Failed(failure) => return Err(failure.into()),
        }
    }
    bail!("the engine ended without an answer")
}

async fn loaded(engine: &EngineHandle) -> anyhow::Result<()> {
    let mut states = engine.watch_state();
    let state = states.wait_for(|state| *state != State::Loading).await?;
    match &*state {
        State::Failed(reason) => bail!("{reason}"),
        _ => Ok(()),
    }
}

fn print_timing(summary: &Summary) {
    let (timings, usage) = (&summary.timings, &summary.usage);
    let rate = match timings.decode.as_secs_f64() {
        0.0 => String::new(),
        seconds => {
            let tokens = usage.completion_tokens.saturating_sub(1) as f64;
            format!(" ({:.1} tokens/s)", tokens / seconds)
        }
    };
    eprintln!(
        "{} tokens; vision {:.2} s, prefill {:.2} s, decode {:.2} s{rate}",
        usage.completion_tokens,
        timings.vision.as_secs_f64(),
        timings.prefill.as_secs_f64(),
        timings.decode.as_secs_f64(),
    );
}
