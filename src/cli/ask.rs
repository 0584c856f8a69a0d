//! `ask`: answers one prompt about one image on the terminal.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures::StreamExt;
use image::ImageFormat;
use paligemma_server::engine::{
    EngineHandle, EngineOptions, Event, Generation, MaxTokens, Request, Sampling, State, Summary,
};
use paligemma_server::runtime::Runtime;
use paligemma_server::settings::Settings;
use paligemma_server::tasks::detection::bins;
use paligemma_server::telemetry::logging;

use super::detections::Detections;
use super::flags::SettingsFlags;
use super::threads;

#[derive(clap::Args)]
pub struct Args {
    /// The picture: JPEG, PNG, WebP, GIF, BMP or TIFF.
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// The prompt as PaliGemma sees it, such as "caption en" or "answer en What is this?".
    prompt: String,
    /// Draw the answer's boxes and masks on a copy of the picture.
    #[arg(long, value_name = "FILE")]
    draw: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsFlags<true>,
}

/// Loads the model and answers. The answer streams to stdout, followed by a table of its objects;
/// timings go to stderr.
pub fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.settings.load()?;
    threads::set(&settings);
    logging::init(settings.log_format, &settings.log_level)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(answer(&settings, args.image, args.prompt, args.draw));
    runtime.shutdown_background();
    print_timing(&outcome?);
    Ok(())
}

async fn answer(
    settings: &Settings,
    image: PathBuf,
    prompt: String,
    draw: Option<PathBuf>,
) -> anyhow::Result<Summary> {
    let mut detections = Detections::of_prompt(&prompt);
    if draw.is_some() && detections.is_none() {
        bail!("--draw needs a detect or segment prompt, such as \"detect cat\"");
    }
    // Check paths before fetching the model, so that a wrong one is reported at once.
    let bytes = std::fs::read(&image).with_context(|| format!("--image {}", image.display()))?;
    if let Some(path) = &draw {
        check_drawing(path, &image).with_context(|| format!("--draw {}", path.display()))?;
    }
    let runtime = Runtime::load(settings).await?;
    let preprocessor = runtime.preprocessor.clone();
    let mask_decoder = runtime.mask_decoder.clone();
    let bytes = Bytes::from(bytes);
    let named = || format!("--image {}", image.display());
    let pixels = preprocessor.prepare(bytes.clone()).await;
    let pixels = pixels.with_context(named)?;
    let size = (pixels.width, pixels.height);

    let options = EngineOptions {
        slots: 1,
        queue: 1,
        image_cache_bytes: 0,
        ..runtime.engine_options()
    };
    let bins = bins(&runtime.tokenizer);
    let engine = runtime.start_engine(options);
    loaded(&engine).await?;
    let events = engine.submit(Request {
        image: Arc::new(pixels),
        prompt,
        max_tokens: MaxTokens::AtMost(settings.max_tokens_default),
        sampling: Sampling::greedy(),
        stop: Vec::new(),
        logprobs: detections.as_ref().map(|_| 0),
        neighbours: detections.as_ref().and(bins),
        deadline: None,
    })?;
    let summary = print(events, detections.as_mut()).await?;
    let Some(detections) = detections else {
        return Ok(summary);
    };
    write!(std::io::stdout(), "{}", detections.table(size))?;
    if let Some(path) = draw {
        let picture = preprocessor.picture(&bytes).with_context(named)?;
        detections.draw(picture, mask_decoder.as_deref(), &path)?;
    }
    Ok(summary)
}

/// Checks that the drawing can be written later.
fn check_drawing(path: &Path, image: &Path) -> anyhow::Result<()> {
    ImageFormat::from_path(path)
        .ok()
        .filter(ImageFormat::can_write)
        .context("the name must end with an image format, such as .png or .jpg")?;
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    ensure!(
        folder.is_dir(),
        "the folder {} does not exist",
        folder.display()
    );
    let same =
        matches!((path.canonicalize(), image.canonicalize()), (Ok(one), Ok(other)) if one == other);
    ensure!(!same, "this is the input picture; choose another file");
    Ok(())
}

/// Streams the answer to stdout and parses its objects.
async fn print(
    mut events: Generation,
    mut detections: Option<&mut Detections>,
) -> anyhow::Result<Summary> {
    let mut stdout = std::io::stdout();
    while let Some(event) = events.next().await {
        match event {
            Event::Delta { text, tokens } => {
                stdout.write_all(text.as_bytes())?;
                stdout.flush()?;
                if let Some(detections) = &mut detections {
                    detections.push(&text, &tokens);
                }
            }
            Event::Finished(summary) => {
                writeln!(stdout)?;
                if let Some(detections) = detections {
                    detections.finish();
                }
                return Ok(summary);
            }
            Event::Failed(failure) => return Err(failure.into()),
        }
    }
    bail!("the engine stopped without an answer")
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
