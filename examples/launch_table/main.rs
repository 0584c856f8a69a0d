//! Counts what the engine's steps ask of the CUDA driver, on a fake one, and compares with a table.
//! Nothing is computed and no time is measured.
//!
//! `tools/gpu/fake-driver/check.sh` runs this, with the checkpoints that it needs.

mod counts;
mod entry;
mod measure;
mod recorder;
mod table;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use paligemma_server::models::WeightFormat;

use counts::FakeDriver;
use entry::{Entry, FEW, MANY, MODELS};

#[derive(Parser)]
#[command(about = "Compares launches, copies and allocations of each step with a table")]
struct Args {
    /// Where the checkpoints are: MODEL-2 and MODEL-4, with as many layers
    #[arg(long)]
    checkpoints: PathBuf,
    /// The table
    #[arg(long)]
    table: PathBuf,
    /// Write the table instead of comparing with it
    #[arg(long)]
    write: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let driver = FakeDriver::find()?;
    let mut entries = Vec::new();
    for model in &MODELS {
        for format in [WeightFormat::Bf16, WeightFormat::F32, WeightFormat::Q8_0] {
            let folder = |layers| args.checkpoints.join(format!("{}-{layers}", model.shape));
            let few = measure::measure(&folder(FEW), format, driver).await?;
            let many = measure::measure(&folder(MANY), format, driver).await?;
            for ((stage, case, few), (_, _, many)) in few.into_iter().zip(many) {
                entries.push(Entry::new(model, format, stage, case, &few, &many)?);
            }
        }
    }
    let text = table::render(&entries);
    if args.write {
        return fs::write(&args.table, text).context("the table can't be written");
    }
    let committed = fs::read_to_string(&args.table).context("the table can't be read")?;
    let differences = table::differences(&committed, &text);
    if !differences.is_empty() {
        bail!(
            "{} has other counts (- there, + now):\n{differences}\nIf they are meant, write it again with tools/gpu/fake-driver/check.sh --write",
            args.table.display()
        );
    }
    println!("{}: the same counts", args.table.display());
    entry::check_promises(&entries)
}
