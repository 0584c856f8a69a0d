//! `ask`: answers one prompt about one image on the terminal.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures::StreamExt;
use image::ImageFormat;
use paligemma_server::engine::{
    EngineHandle, EngineOptions, Event, FinishReason, Generation, MaxTokens, Request, Sampling,
    State, Summary,
};
use paligemma_server::runtime::Runtime;
use paligemma_server::settings::{Settings, TaskName};
use paligemma_server::tasks::detection::bins;
use paligemma_server::telemetry::logging;

use super::detections::Detections;
use super::exit::UsageError;
use super::flags::SettingsFlags;
use super::task_flags::TaskFlags;
use super::{adapter, drawing, prompt_forms, threads};

const EXAMPLES: &str = "\
Examples:
  # A caption from the built-in demo, which knows drawn shapes.
  paligemma-server ask --image examples/images/red-circle.png --task caption

  # Boxes, drawn on a copy of the picture.
  paligemma-server ask --image examples/images/red-circle.png --task detect --object \"red circle\" --draw found.png

  # A question to a real checkpoint.
  paligemma-server ask --model google/paligemma2-3b-mix-224 --image cow.jpg --task vqa --question \"where is the cow?\"

  # The same, word for word as PaliGemma sees it.
  paligemma-server ask --model google/paligemma2-3b-mix-224 --image cow.jpg \"answer en where is the cow?\"";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The picture: JPEG, PNG, WebP, GIF, BMP or TIFF.
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// Instead of --task: the prompt as PaliGemma sees it, such as "caption en" or "answer en What is
    /// this?".
    prompt: Option<String>,
    /// What to ask. It writes the prompt in the words of PaliGemma's training.
    #[arg(long, value_enum)]
    task: Option<TaskName>,
    #[command(flatten)]
    flags: TaskFlags,
    /// For detect and segment: draw what was found on a copy of the picture.
    #[arg(long, value_name = "FILE")]
    draw: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsFlags<true>,
}

/// What to ask about which picture.
pub struct Question {
    image: PathBuf,
    prompt: String,
    min_score: f32,
    draw: Option<PathBuf>,
}

/// Loads the model and answers. The answer streams to stdout, followed by a table of its objects;
/// hints, timings and the mark of a cut answer go to stderr.
pub fn run(args: Args) -> anyhow::Result<()> {
    let question = args.question()?;
    let settings = args.settings.load()?;
    adapter::name(&settings)?;
    threads::set(&settings);
    logging::init(settings.log_format, &settings.log_level)?;
    if !prompt_forms::is_known(&question.prompt) {
        eprintln!("{}", prompt_forms::HINT);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(answer(&settings, question));
    runtime.shutdown_background();
    let summary = outcome?;
    print_timing(&summary);
    mark_if_cut(&summary, settings.max_tokens_default);
    Ok(())
}

impl Args {
    /// The question in these arguments.
    ///
    /// # Errors
    /// When arguments are missing or wrong, or don't fit together.
    pub fn question(&self) -> Result<Question, UsageError> {
        let prompt = match (&self.prompt, self.task) {
            (Some(prompt), None) => {
                self.flags.refuse_others(None)?;
                prompt.clone()
            }
            (None, Some(task)) => self.flags.prompt(task)?,
            (Some(_), Some(task)) => return Err(both(task)),
            (None, None) => {
                return Err(UsageError(
                    "nothing is asked: pass --task caption, vqa, detect, segment or ocr, \
                     or a PROMPT such as \"caption en\""
                        .to_owned(),
                ));
            }
        };
        if self.draw.is_some() && Detections::of_prompt(&prompt, 0.0).is_none() {
            return Err(UsageError(
                "--draw is for --task detect and segment, and for prompts such as \"detect cat\""
                    .to_owned(),
            ));
        }
        Ok(Question {
            image: self.image.clone(),
            prompt,
            min_score: self.flags.min_score(),
            draw: self.draw.clone(),
        })
    }
}

/// Both a prompt and a task were passed. What was meant as the prompt belongs into a flag.
fn both(task: TaskName) -> UsageError {
    UsageError(match task {
        TaskName::Vqa => "with --task vqa, pass the question with --question".to_owned(),
        TaskName::Detect | TaskName::Segment => {
            format!("with --task {task}, pass what to look for with --object")
        }
        TaskName::Caption | TaskName::Ocr => {
            format!("--task {task} writes the prompt itself; leave one of them out")
        }
    })
}

async fn answer(settings: &Settings, question: Question) -> anyhow::Result<Summary> {
    let Question {
        image,
        prompt,
        min_score,
        draw,
    } = question;
    let mut detections = Detections::of_prompt(&prompt, min_score);
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
    let adapter = adapter::answerer(&runtime.adapters.list);
    let engine = runtime.start_engine(options);
    loaded(&engine).await?;
    let events = engine.submit(Request {
        image: Arc::new(pixels),
        adapter,
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
        drawing::draw(picture, detections.found(), mask_decoder.as_deref())?
            .save(&path)
            .with_context(|| format!("--draw {}", path.display()))?;
    }
    Ok(summary)
}

/// Checks that the drawing can be written later.
fn check_drawing(path: &Path, image: &Path) -> anyhow::Result<()> {
    ImageFormat::from_path(path)
        .ok()
        .filter(ImageFormat::can_write)
        .ok_or_else(|| {
            UsageError("the name must end with an image format, such as .png or .jpg".to_owned())
        })?;
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    ensure!(
        folder.is_dir(),
        "the folder {} does not exist",
        folder.display()
    );
    let same =
        matches!((path.canonicalize(), image.canonicalize()), (Ok(one), Ok(other)) if one == other);
    match same {
        true => Err(UsageError("this is the input picture; choose another file".to_owned()).into()),
        false => Ok(()),
    }
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
    // The first token comes out of the prefill.
    let decoded = usage.completion_tokens.saturating_sub(1) as f64;
    let seconds = timings.decode.as_secs_f64();
    let rate = match decoded > 0.0 && seconds > 0.0 {
        true => format!(" ({:.1} tokens/s)", decoded / seconds),
        false => String::new(),
    };
    eprintln!(
        "{}; vision {:.2} s, prefill {:.2} s, decode {seconds:.2} s{rate}",
        counted(usage.completion_tokens),
        timings.vision.as_secs_f64(),
        timings.prefill.as_secs_f64(),
    );
}

/// Says that the answer is not whole, and which setting ended it.
fn mark_if_cut(summary: &Summary, max_tokens: usize) {
    if summary.finish_reason != FinishReason::Length {
        return;
    }
    let tokens = summary.usage.completion_tokens;
    let reason = match tokens < max_tokens {
        true => "the context was full; raise --context",
        false => "that is the limit; raise --max-tokens-default",
    };
    let tokens = counted(tokens);
    eprintln!("the answer was cut after {tokens}: {reason}");
}

fn counted(tokens: usize) -> String {
    match tokens {
        1 => "1 token".to_owned(),
        _ => format!("{tokens} tokens"),
    }
}
