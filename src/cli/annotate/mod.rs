//! `annotate`: labels a folder of pictures with the server's engine.
//!
//! [`args`] holds the flags, [`files`] finds the pictures, [`record`] reads and writes the output,
//! [`labeller`] runs the model, [`progress`] shows progress, and [`coco`] writes COCO JSON.

mod args;
mod coco;
mod files;
mod labeller;
mod progress;
mod record;

use anyhow::{Context as _, bail, ensure};
use futures::{StreamExt, stream};
use paligemma_server::runtime::served_names;
use paligemma_server::server::Shutdown;
use paligemma_server::settings::Settings;
use paligemma_server::telemetry::logging;

use super::threads;
pub use args::{Args, TaskName};
use labeller::Labeller;
use progress::Progress;
use record::Output;

/// Labels the pictures that have no label yet. Ctrl-C stops it cleanly; the same command resumes.
pub fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.settings.clone().load()?;
    threads::set(&settings);
    logging::init(settings.log_format, &settings.log_level)?;
    let prompt = args.prompt()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(annotate(&args, &settings, prompt));
    runtime.shutdown_background();
    outcome
}

async fn annotate(args: &Args, settings: &Settings, prompt: String) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::on_signals()?;
    let (model, _) = served_names(settings);
    let mut output = Output::open(&args.output, &model, &prompt)?;
    if let Some(path) = &args.coco {
        coco::check(path, &args.output).with_context(|| format!("--coco {}", path.display()))?;
    }
    let all = files::pictures(&args.folder, &args.include)?;
    let left: Vec<_> = all
        .iter()
        .filter(|file| !output.has(file))
        .cloned()
        .collect();
    let mut progress = Progress::new(all.len(), left.len(), output.failed());
    let mut unread = 0;
    if !left.is_empty() {
        let labeller = tokio::select! {
            labeller = Labeller::start(settings, args.task, &model, &prompt) => labeller?,
            name = shutdown.next() => bail!("{name}: stopped before the model was loaded"),
        };
        // Twice the number of slots, so that images are decoded while others are in the model.
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
                name = shutdown.next() => {
                    progress.finish();
                    bail!("{name}: {} of {} pictures are labelled; run the same command to resume", progress.done(), all.len());
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
        "{unread} files could not be read; run the same command to retry them"
    );
    Ok(())
}
