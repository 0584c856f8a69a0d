//! Many impatient clients against a real server on loopback, for a bounded time.
//!
//! First each request of the mix is sent alone. Then the clients send them at random: some stream,
//! some leave before the first token, mid-stream or without streaming, and some send what is wrong. The
//! check fails unless every answer equals the one given alone, every status is 200, 429 or what a wrong
//! request must get, every slot and descriptor is free at the end and the server's memory stays flat.
//! Meanwhile a probe asks for health and metrics, as an orchestrator would.
//!
//! ```text
//! cargo build --release && cargo run --release --example random_checkpoint -- --shape tiny --out DIR --adapters 2
//! cargo run --release --example load_check -- --model DIR                            a minute
//! cargo run --release --example load_check -- --model DIR --adapter a=DIR/adapter-1  the same with an adapter
//! cargo run --release --example load_check -- --model DIR --seconds 900              a soak
//! ```

mod bad;
mod mix;
mod probe;
mod server;
mod visit;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use paligemma_server::http_client;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use tokio::task::JoinSet;

use mix::{answers, mix};
use server::Server;
use visit::{Outcome, Visit};

#[derive(Parser)]
#[command(about = "Puts a server under load with clients that come and go")]
struct Args {
    /// The checkpoint to serve; a tiny one answers more requests
    #[arg(long)]
    model: PathBuf,
    /// The server [default: the one built beside this program]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Adapters of it, which a part of the requests name
    #[arg(long = "adapter", value_name = "NAME=FOLDER")]
    adapters: Vec<String>,
    #[arg(long, default_value_t = 64)]
    clients: u64,
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Share of requests whose client leaves early
    #[arg(long, default_value_t = 0.3)]
    leaving: f64,
    /// Share of requests that are wrong
    #[arg(long, default_value_t = 0.1)]
    bad: f64,
    /// Length of the server's queue; shorter than the number of clients, so that some are refused
    #[arg(long, default_value_t = 32)]
    queue: usize,
}

/// How much the server's memory may grow in the second half of the run.
const GROWTH_MIB: f64 = 24.0;

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let client = http_client::builder().build()?;
    let server = Server::start(&args, &client).await?;
    let mix = Arc::new(mix(&args.adapters));
    let mut alone = Vec::new();
    for ask in mix.iter() {
        let response = ask.send(&client, &server.url, false).await?;
        ensure!(
            response.status() == StatusCode::OK,
            "{}",
            response.text().await?
        );
        alone.push(answers(&response.json().await?)?);
    }
    let alone = Arc::new(alone);
    let descriptors = server.descriptors()?;

    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut clients = JoinSet::new();
    for seed in 0..args.clients {
        let (mix, alone, url) = (mix.clone(), alone.clone(), server.url.clone());
        let (leaving, bad) = (args.leaving, args.bad);
        let client = http_client::builder().build()?;
        clients.spawn(async move {
            let mut tally = Tally::default();
            let mut rng = StdRng::seed_from_u64(seed);
            while Instant::now() < end {
                let outcome = match rng.random_bool(bad) {
                    true => bad::send(&mut rng, &client, &url).await,
                    false => {
                        let index = rng.random_range(0..mix.len());
                        let visit = Visit::draw(&mut rng, leaving);
                        visit.run(&client, &url, &mix[index], &alone[index]).await
                    }
                };
                tally.count(outcome);
            }
            tally
        });
    }
    let probes = tokio::spawn(probe::until(end, server.url.clone()));
    let memory = server.watch_memory(end).await?;
    let mut total = Tally::default();
    while let Some(tally) = clients.join_next().await {
        total.add(tally?);
    }
    let idle = server.wait_until_idle(&client).await;
    report(&args, &total, &memory);
    probes.await??.report();
    idle?;
    server.check_descriptors(descriptors).await?;
    total.check(&memory)?;
    server.stop().await
}

#[derive(Debug, Default)]
struct Tally {
    answered: usize,
    refused: usize,
    left: usize,
    bad: usize,
    wrong: usize,
    /// The first few wrong answers.
    examples: Vec<String>,
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answered => self.answered += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Left => self.left += 1,
            Outcome::Bad => self.bad += 1,
            Outcome::Wrong(what) => {
                self.wrong += 1;
                self.examples.push(what);
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.left += other.left;
        self.bad += other.bad;
        self.wrong += other.wrong;
        self.examples.extend(other.examples);
        self.examples.truncate(5);
    }

    fn check(&self, memory: &[f64]) -> Result<()> {
        ensure!(
            self.wrong == 0,
            "{} wrong answers: {:#?}",
            self.wrong,
            self.examples
        );
        ensure!(self.answered > 0, "nothing was answered");
        let (first, second) = memory.split_at(memory.len() / 2);
        let highest = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
        let growth = highest(second) - highest(first);
        ensure!(
            growth < GROWTH_MIB,
            "memory grew by {growth:.0} MiB in the second half of the run: {memory:.0?}"
        );
        Ok(())
    }
}

fn report(args: &Args, total: &Tally, memory: &[f64]) {
    let at = |index: usize| memory.get(index).copied().unwrap_or(0.0);
    println!(
        "{} clients, {} s: {} answered as when alone, {} refused with 429, {} left early, {} refused as wrong, {} with a wrong answer",
        args.clients,
        args.seconds,
        total.answered,
        total.refused,
        total.left,
        total.bad,
        total.wrong
    );
    println!(
        "memory: {:.0} MiB after a second, {:.0} MiB in the middle, {:.0} MiB at the end",
        at(0),
        at(memory.len() / 2),
        at(memory.len().saturating_sub(1)),
    );
}
