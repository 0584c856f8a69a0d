//! `annotate`: a folder of pictures, labelled through the same engine as a server has.
//!
//! [`files`] finds the pictures, [`record`] is a line of the output and what is there already,
//! [`labeller`] asks the model, [`progress`] tells how far it is, and [`coco`] writes the other format.

mod coco;
mod files;
mod labeller;
mod progress;
mod record;

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail, ensure};
use futures::{StreamExt, stream};
use paligemma_server::server::Signals;
use paligemma_server::settings::Settings;
use paligemma_server::tasks::caption::Length;
use paligemma_server::tasks::{DEFAULT_LANGUAGE, caption, located, ocr, vqa};
use paligemma_server::telemetry::logging;

use super::flags::SettingsFlags;
use super::threads;
use labeller::Labeller;
use progress::Progress;
use record::Output;

#[derive(clap::Args)]
pub struct Args {
    /// The folder whose pictures are labelled, with all folders in it.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[arg(long, value_enum)]
    task: TaskName,
    /// Where the labels go, one JSON object a line. What is there already is not done again.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Only files whose path below DIR matches, such as 'holiday/**/*.jpg'; may be repeated.
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// For vqa: the question.
    #[arg(long, required_if_eq("task", "vqa"))]
    question: Option<String>,
    /// For detect and segment: what to look for; may be repeated.
    #[arg(long = "object", value_name = "NAME", required_if_eq_any([("task", "detect"), ("task", "segment")]))]
    objects: Vec<String>,
    /// For caption: short, normal or detailed.
    #[arg(long, value_enum, default_value = "normal")]
    length: LengthName,
    /// For caption and vqa: the language of the answers.
    #[arg(long, default_value = DEFAULT_LANGUAGE)]
    language: String,
    /// For detect and segment: write everything in --output as COCO's JSON as well, at the end.
    #[arg(long, value_name = "FILE")]
    coco: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsFlags<true>,
}

/// What is asked about each picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum TaskName {
    Caption,
    Ocr,
    Vqa,
    Detect,
    Segment,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LengthName {
    Short,
    Normal,
    Detailed,
}

impl TaskName {
    fn has_objects(self) -> bool {
        matches!(self, Self::Detect | Self::Segment)
    }
}

impl Args {
    fn prompt(&self) -> String {
        match self.task {
            TaskName::Caption => {
                let length = match self.length {
                    LengthName::Short => Length::Short,
                    LengthName::Normal => Length::Normal,
                    LengthName::Detailed => Length::Detailed,
                };
                caption::prompt(length, &self.language)
            }
            TaskName::Ocr => ocr::PROMPT.to_owned(),
            TaskName::Vqa => {
                vqa::prompt(self.question.as_deref().unwrap_or_default(), &self.language)
            }
            TaskName::Detect => located::prompt("detect", &self.objects),
            TaskName::Segment => located::prompt("segment", &self.objects),
        }
    }
}

/// Labels what is not labelled yet. Ctrl-C ends it in good order; the same command goes on.
pub fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.settings.clone().load()?;
    threads::set(&settings);
    logging::init(settings.log_format, &settings.log_level)?;
    if args.coco.is_some() && !args.task.has_objects() {
        bail!("--coco is for detect and segment");
    }
    if args.coco.as_ref() == Some(&args.output) {
        bail!("--coco and --output name the same file");
    }
    for object in &args.objects {
        located::name(object).map_err(|reason| anyhow!("--object {object:?} {reason}"))?;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(annotate(&args, &settings));
    runtime.shutdown_background();
    outcome
}

async fn annotate(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let prompt = args.prompt();
    let mut output = Output::open(&args.output, &prompt)?;
    let all = files::pictures(&args.folder, &args.include)?;
    let left: Vec<_> = all
        .iter()
        .filter(|file| !output.has(file))
        .cloned()
        .collect();
    let mut progress = Progress::new(all.len(), left.len());
    let mut unread = 0;
    if !left.is_empty() {
        let labeller = tokio::select! {
            labeller = Labeller::start(settings, args.task, &prompt) => labeller?,
            name = signals.next() => bail!("{name}: ended before the model was there"),
        };
        // Twice as many as there are slots: while some are in the model, others are decoded.
        let ahead = settings.slots * 2;
        let mut records = stream::iter(left)
            .map(|file| labeller.label(&args.folder, file))
            .buffer_unordered(ahead);
        loop {
            tokio::select! {
                record = records.next() => match record {
                    Some(record) => match record? {
                        Some(record) => {
                            progress.advance(record.error.is_some());
                            output.write(&record)?;
                        }
                        None => unread += 1,
                    },
                    None => break,
                },
                name = signals.next() => {
                    progress.finish();
                    bail!("{name}: {} of {} pictures are labelled; the same command goes on from there", progress.done(), all.len());
                }
            }
        }
    }
    progress.finish();
    if let Some(path) = &args.coco {
        coco::write(path, &output.records()?)
            .with_context(|| format!("--coco {}", path.display()))?;
    }
    ensure!(
        unread == 0,
        "{unread} files could not be read; the same command tries them again"
    );
    Ok(())
}
