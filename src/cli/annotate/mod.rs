//! `annotate`: labels pictures with the server's engine or with running servers.
//!
//! [`args`] holds the flags, [`pictures`] finds the pictures, [`record`] is what is told of each,
//! [`line_file`] the output, [`labeller`] asks the model in this process or, through [`replicas`], running
//! servers, [`progress`] shows progress, and [`outputs`] writes other formats at the end. [`batch`]
//! answers requests instead of labelling pictures.

mod args;
mod batch;
mod labeller;
mod line_file;
mod outputs;
mod pictures;
mod progress;
mod record;
mod replicas;

use std::path::Path;

use anyhow::bail;
use futures::{StreamExt, stream};
use paligemma_server::runtime::served_names;
use paligemma_server::server::Shutdown;
use paligemma_server::settings::{Settings, TaskName};
use paligemma_server::telemetry::logging;

use super::adapter;
use super::exit::PicturesFailed;
use super::threads;
pub use args::Args;
use args::Work;
use labeller::{Answerer, Labeller, Resident, Servers};
use pictures::Picture;
use progress::{Outcome, Progress};
use record::{Asked, Output};
use replicas::Replicas;

/// Labels the pictures that have no label yet. Ctrl-C stops it cleanly; the same command resumes.
pub fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.settings.clone().load()?;
    threads::set(&settings);
    logging::init(settings.log_format, &settings.log_level)?;
    let work = args.work()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(async {
        match work {
            Work::Batch(batch) => batch::run(&args, &settings, &batch).await,
            Work::Pictures { task, prompt } => annotate(&args, &settings, task, prompt).await,
        }
    });
    runtime.shutdown_background();
    outcome
}

async fn annotate(
    args: &Args,
    settings: &Settings,
    task: TaskName,
    prompt: String,
) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::on_signals()?;
    let servers = args.replicas(settings)?;
    let pictures = pictures::pictures(&args.sources())?;
    let replicas = match servers {
        None => None,
        Some(options) => Some(tokio::select! {
            replicas = Replicas::connect(options) => replicas?,
            name = shutdown.next() => bail!("{name}: stopped before a server was ready"),
        }),
    };
    let (model, adapter) = match &replicas {
        None => (served_names(settings).0, adapter::name(settings)?),
        Some(replicas) => (replicas.model(), replicas.adapter().map(str::to_owned)),
    };
    let asked = Asked {
        model,
        adapter,
        prompt,
        min_score: args.flags.min_score(),
    };
    let mut output = Output::open(&args.output, &asked)?;
    let names = pictures.iter().map(|picture| picture.name.as_str());
    args.outputs.check(&args.output, names)?;
    let all = pictures.len();
    let (done, left): (Vec<_>, Vec<_>) = pictures
        .into_iter()
        .partition(|picture| output.has(&picture.name));
    let failed = done
        .iter()
        .filter(|picture| output.has_error(&picture.name))
        .count();
    let labeller = match left.is_empty() {
        true => None,
        false => Some(tokio::select! {
            answerer = answerer(args, settings, task, replicas) => Labeller::new(answerer?, asked),
            name = shutdown.next() => bail!("{name}: stopped before the model was loaded"),
        }),
    };
    let mut progress = Progress::new(all, done.len(), failed);
    if let Some(labeller) = labeller {
        let labelling = label(&labeller, left, &mut output, &mut progress);
        let stopped = tokio::select! {
            outcome = labelling => outcome.err().map(|error| format!("{error:#}")),
            name = shutdown.next() => Some(name.to_owned()),
        };
        if let Some(reason) = stopped {
            progress.finish();
            let done = progress.done();
            bail!(
                "{reason}: {done} of {all} pictures are labelled; run the same command to resume"
            );
        }
    }
    progress.finish();
    if !args.outputs.is_empty() {
        args.outputs.write(output.records()?)?;
    }
    if progress.cut() > 0 {
        tracing::warn!(
            "cut answers: {} (their finish_reason is length); raise --max-tokens-default, now {}, or --context",
            progress.cut(),
            settings.max_tokens_default
        );
    }
    report_failures(&progress, "pictures", &args.output, args.keep_going)
}

/// Loads the model, unless there are servers.
async fn answerer(
    args: &Args,
    settings: &Settings,
    task: TaskName,
    replicas: Option<Replicas>,
) -> anyhow::Result<Answerer> {
    Ok(match replicas {
        None => Answerer::Resident(Box::new(Resident::start(settings, task).await?)),
        Some(replicas) => {
            let (question, max_tokens) = (args.question(task)?, settings.max_tokens_default);
            Answerer::Servers(Servers::new(replicas, question, max_tokens))
        }
    })
}

/// Labels the pictures, some of them at a time, in the order in which their answers finish.
async fn label(
    labeller: &Labeller,
    pictures: Vec<Picture>,
    output: &mut Output,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let mut records = stream::iter(pictures)
        .map(|picture| labeller.label(picture))
        .buffer_unordered(labeller.ahead());
    while let Some(record) = records.next().await {
        let outcome = match record? {
            None => Outcome::Unread,
            Some(record) => {
                output.write(&record)?;
                record.outcome()
            }
        };
        progress.advance(outcome);
    }
    Ok(())
}

/// Fails if some pictures or requests have no label or answer, unless the user wants to go on all the same.
fn report_failures(
    progress: &Progress,
    what: &str,
    output: &Path,
    keep_going: bool,
) -> anyhow::Result<()> {
    let (failed, unread) = (progress.failed(), progress.unread());
    if failed + unread == 0 {
        return Ok(());
    }
    let mut reasons = Vec::new();
    if failed > 0 {
        let output = output.display();
        reasons.push(format!("{failed} with an error in {output}"));
    }
    if unread > 0 {
        reasons.push(format!(
            "{unread} that could not be read or got no answer, which the same command tries again"
        ));
    }
    let message = format!(
        "{} of {} {what} have no {}: {}",
        failed + unread,
        progress.all(),
        if what == "pictures" {
            "label"
        } else {
            "answer"
        },
        reasons.join("; ")
    );
    match keep_going {
        true => {
            tracing::warn!("{message}");
            Ok(())
        }
        false => Err(PicturesFailed(message).into()),
    }
}
