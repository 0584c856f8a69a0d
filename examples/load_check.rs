//! Many impatient clients against a real server on loopback, for a bounded time.
//!
//! First every request of the mix is answered alone; then the clients send them at random, some
//! streaming, and some leaving before the first token, in mid-stream or without streaming. It fails
//! unless every answer equals the answer alone, no status but 200 and 429 is seen, every slot is
//! free at the end and the server's memory stays flat.
//!
//! ```text
//! cargo build --release && cargo run --release --example random_checkpoint -- --shape tiny --out DIR
//! cargo run --release --example load_check -- --model DIR
//! ```

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use futures::StreamExt;
use image::{ImageFormat, Rgb, RgbImage};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

#[derive(Parser)]
#[command(about = "Puts a server under load with clients that come and go")]
struct Args {
    /// The checkpoint to serve; a tiny one, so that many requests are answered
    #[arg(long)]
    model: PathBuf,
    /// The server [default: the one built beside this program]
    #[arg(long)]
    binary: Option<PathBuf>,
    #[arg(long, default_value_t = 64)]
    clients: u64,
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Share of requests whose client leaves early
    #[arg(long, default_value_t = 0.3)]
    leaving: f64,
    /// Requests that the server lets wait; fewer than the clients, so that some are refused
    #[arg(long, default_value_t = 32)]
    queue: usize,
}

/// How much the server's memory may grow in the second half of the run.
const GROWTH_MIB: f64 = 24.0;

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let server = Server::start(&args).await?;
    let mix = Arc::new(mix());
    let client = Client::new();
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

    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut clients = JoinSet::new();
    for seed in 0..args.clients {
        let (mix, alone, url) = (mix.clone(), alone.clone(), server.url.clone());
        let leaving = args.leaving;
        clients.spawn(async move {
            let mut tally = Tally::default();
            let mut rng = StdRng::seed_from_u64(seed);
            let client = Client::new();
            while Instant::now() < end {
                let index = rng.random_range(0..mix.len());
                let visit = Visit::draw(&mut rng, leaving);
                let outcome = visit.run(&client, &url, &mix[index], &alone[index]).await;
                tally.count(outcome);
            }
            tally
        });
    }
    let memory = server.watch_memory(end).await?;
    let mut total = Tally::default();
    while let Some(tally) = clients.join_next().await {
        total.add(tally?);
    }
    let idle = server.wait_until_idle(&client).await;
    report(&args, &total, &memory);
    idle?;
    total.check(&memory)?;
    server.stop().await
}

/// One request of the mix.
struct Ask {
    route: &'static str,
    body: Value,
    /// A PNG, sent as multipart instead of inside the JSON.
    file: Option<Vec<u8>>,
}

/// Every route, JSON and multipart, one and several images and questions, greedy and seeded.
fn mix() -> Vec<Ask> {
    use base64::Engine;
    let encode = |png: &[u8]| base64::engine::general_purpose::STANDARD.encode(png);
    let mut mix = Vec::new();
    for index in 0..6u8 {
        let png = picture(index);
        let image = encode(&png);
        let other = encode(&picture(index + 100));
        mix.push(Ask {
            route: "/v1/caption",
            body: json!({"length": "short", "max_tokens": 12}),
            file: Some(png),
        });
        mix.push(Ask {
            route: "/v1/caption",
            body: json!({"images": [image, other], "max_tokens": 8 + index}),
            file: None,
        });
        mix.push(Ask {
            route: "/v1/vqa",
            body: json!({
                "image": image, "questions": ["how many?", "what colour is the largest shape in it?"],
                "max_tokens": 10,
            }),
            file: None,
        });
        mix.push(Ask {
            route: "/v1/generate",
            body: json!({
                "image": image, "prompt": "é 你好 <loc0100>", "max_tokens": 24,
                "temperature": 0.7, "seed": index, "top_k": 40,
            }),
            file: None,
        });
    }
    mix
}

fn picture(index: u8) -> Vec<u8> {
    let image = RgbImage::from_fn(90 + u32::from(index), 70, |x, y| {
        Rgb([
            x as u8 ^ index,
            (y as u8).wrapping_mul(index),
            (x + y) as u8,
        ])
    });
    let mut png = Cursor::new(Vec::new());
    image
        .write_to(&mut png, ImageFormat::Png)
        .expect("a picture in memory can be written");
    png.into_inner()
}

impl Ask {
    async fn send(
        &self,
        client: &Client,
        url: &str,
        stream: bool,
    ) -> reqwest::Result<reqwest::Response> {
        let request = client.post(format!("{url}{}", self.route));
        let Some(file) = &self.file else {
            let mut body = self.body.clone();
            body["stream"] = json!(stream);
            return request.json(&body).send().await;
        };
        let mut form = Form::new()
            .part("image", Part::bytes(file.clone()).file_name("picture.png"))
            .text("stream", stream.to_string());
        for (name, value) in self.body.as_object().into_iter().flatten() {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            form = form.text(name.clone(), text);
        }
        request.multipart(form).send().await
    }
}

/// The texts of a whole answer, in order.
fn answers(response: &Value) -> Result<Vec<String>> {
    let results = response["results"].as_array().context("no results")?;
    results
        .iter()
        .map(|result| {
            let text = ["caption", "answer", "text"]
                .iter()
                .find_map(|field| result[field].as_str());
            text.map(str::to_owned)
                .with_context(|| format!("no text in {result}"))
        })
        .collect()
}

/// What a client does with one request.
#[derive(Clone, Copy)]
enum Visit {
    Wait,
    Stream,
    /// Leaves so long after sending, whatever has come by then.
    LeaveAfter(Duration),
    /// Streams and leaves at the first event.
    LeaveInMidStream,
}

#[derive(Debug)]
enum Outcome {
    Answered,
    Refused,
    Left,
    Wrong(String),
}

impl Visit {
    fn draw(rng: &mut StdRng, leaving: f64) -> Self {
        if rng.random_bool(leaving) {
            return match rng.random_bool(0.5) {
                true => Self::LeaveAfter(Duration::from_millis(rng.random_range(0..200))),
                false => Self::LeaveInMidStream,
            };
        }
        match rng.random_bool(0.5) {
            true => Self::Wait,
            false => Self::Stream,
        }
    }

    async fn run(self, client: &Client, url: &str, ask: &Ask, alone: &[String]) -> Outcome {
        let stream = matches!(self, Self::Stream | Self::LeaveInMidStream);
        let visit = async {
            let response = ask.send(client, url, stream).await?;
            match response.status() {
                StatusCode::OK if stream => self.read_stream(response, alone).await,
                StatusCode::OK => Ok(compare(&answers(&response.json().await?)?, alone)),
                StatusCode::TOO_MANY_REQUESTS => {
                    ensure!(
                        response.headers().contains_key("retry-after"),
                        "429 without Retry-After"
                    );
                    // Less than Retry-After says: this is meant to be load.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok(Outcome::Refused)
                }
                status => Ok(Outcome::Wrong(format!(
                    "{status}: {}",
                    response.text().await?
                ))),
            }
        };
        let outcome = match self {
            Self::LeaveAfter(patience) => match tokio::time::timeout(patience, visit).await {
                Ok(outcome) => outcome,
                Err(_) => Ok(Outcome::Left),
            },
            _ => visit.await,
        };
        outcome.unwrap_or_else(|error| Outcome::Wrong(format!("{error:#}")))
    }

    async fn read_stream(self, response: reqwest::Response, alone: &[String]) -> Result<Outcome> {
        use eventsource_stream::Eventsource;
        let mut texts = vec![String::new(); alone.len()];
        let mut events = response.bytes_stream().eventsource();
        while let Some(event) = events.next().await {
            if matches!(self, Self::LeaveInMidStream) {
                return Ok(Outcome::Left);
            }
            let event = event?;
            match event.event.as_str() {
                "delta" => {
                    let delta: Value = serde_json::from_str(&event.data)?;
                    let index = delta["index"].as_u64().context("a delta without index")?;
                    texts[index as usize] +=
                        delta["text"].as_str().context("a delta without text")?;
                }
                "error" => return Ok(Outcome::Wrong(event.data)),
                "done" => return Ok(compare(&texts, alone)),
                _ => {}
            }
        }
        Ok(Outcome::Wrong("the stream ended without `done`".into()))
    }
}

fn compare(ours: &[String], alone: &[String]) -> Outcome {
    match ours == alone {
        true => Outcome::Answered,
        false => Outcome::Wrong(format!("{ours:?} in company, {alone:?} alone")),
    }
}

#[derive(Debug, Default)]
struct Tally {
    answered: usize,
    refused: usize,
    left: usize,
    wrong: usize,
    /// The first few that were wrong.
    examples: Vec<String>,
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answered => self.answered += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Left => self.left += 1,
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
        "{} clients, {} s: {} answered as alone, {} refused with 429, {} left early, {} wrong",
        args.clients, args.seconds, total.answered, total.refused, total.left, total.wrong
    );
    println!(
        "memory: {:.0} MiB after a second, {:.0} MiB in the middle, {:.0} MiB at the end",
        at(0),
        at(memory.len() / 2),
        at(memory.len().saturating_sub(1)),
    );
}

/// The server under test; ends with this program.
struct Server {
    url: String,
    process: Child,
}

impl Server {
    async fn start(args: &Args) -> Result<Self> {
        let beside = || -> Result<PathBuf> {
            let program = std::env::current_exe()?;
            let folder = program.parent().and_then(|folder| folder.parent());
            Ok(folder
                .context("this program lies in a folder")?
                .join("paligemma-server"))
        };
        let binary = args.binary.clone().map_or_else(beside, Ok)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let process = Command::new(&binary)
            .args([
                "serve",
                "--log-level",
                "warn",
                "--device",
                "cpu",
                "--dtype",
                "f32",
            ])
            .args([
                "--port",
                &port.to_string(),
                "--queue",
                &args.queue.to_string(),
            ])
            .arg("--model")
            .arg(&args.model)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} can't be started; build it first", binary.display()))?;
        let url = format!("http://127.0.0.1:{port}");
        for _ in 0..300 {
            let ready = reqwest::get(format!("{url}/health/ready")).await;
            if ready.is_ok_and(|response| response.status() == StatusCode::OK) {
                return Ok(Self { url, process });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("the server was not ready after 30 s")
    }

    /// Resident memory in MiB, once a second until `end`.
    async fn watch_memory(&self, end: Instant) -> Result<Vec<f64>> {
        let id = self.process.id().context("the server has ended")?;
        let mut samples = Vec::new();
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = resident.and_then(|text| text.split_whitespace().next());
            samples.push(kib.context("no VmRSS")?.parse::<f64>()? / 1024.0);
        }
        Ok(samples)
    }

    /// Waits until no slot is taken and nothing waits.
    async fn wait_until_idle(&self, client: &Client) -> Result<()> {
        let mut busy = String::new();
        for _ in 0..100 {
            let metrics = client
                .get(format!("{}/metrics", self.url))
                .send()
                .await?
                .text()
                .await?;
            busy = metrics
                .lines()
                .filter(|line| {
                    ["paligemma_slots_used", "paligemma_queue_length"]
                        .iter()
                        .any(|name| {
                            line.strip_prefix(name)
                                .is_some_and(|value| value.trim() != "0")
                        })
                })
                .collect();
            if busy.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("10 s after the last client: {busy}")
    }

    /// Ends the server as an orchestrator would, and expects it to end well.
    async fn stop(mut self) -> Result<()> {
        let id = self.process.id().context("the server has ended")?;
        let kill = Command::new("kill").arg(id.to_string()).status().await?;
        ensure!(kill.success(), "the server can't be signalled");
        let status = self.process.wait().await?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}
