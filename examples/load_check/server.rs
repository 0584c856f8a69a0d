//! The server under load.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::{Client, StatusCode};
use tokio::process::{Child, Command};

use crate::Args;

/// The server under test; killed when dropped.
pub struct Server {
    pub url: String,
    process: Child,
}

impl Server {
    pub async fn start(args: &Args, client: &Client) -> Result<Self> {
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
            .args(args.adapters.iter().flat_map(|it| ["--adapter", it]))
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} can't be started; build it first", binary.display()))?;
        let url = format!("http://127.0.0.1:{port}");
        for _ in 0..300 {
            let ready = client.get(format!("{url}/health/ready")).send().await;
            if ready.is_ok_and(|response| response.status() == StatusCode::OK) {
                return Ok(Self { url, process });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("the server was not ready after 30 s")
    }

    /// Resident memory in MiB, once a second until `end`.
    pub async fn watch_memory(&self, end: Instant) -> Result<Vec<f64>> {
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

    /// File descriptors that the server has open.
    pub fn descriptors(&self) -> Result<usize> {
        let id = self.process.id().context("the server has ended")?;
        Ok(std::fs::read_dir(format!("/proc/{id}/fd"))?.count())
    }

    /// Waits until there are about as many descriptors as at first: all connections but a few have ended.
    pub async fn check_descriptors(&self, first: usize) -> Result<()> {
        let mut open = 0;
        for _ in 0..100 {
            open = self.descriptors()?;
            if open <= first + 2 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!(
            "{open} descriptors are open 10 s after the last client, and {first} were before"
        )
    }

    /// Waits until no slot is in use and the queue is empty.
    pub async fn wait_until_idle(&self, client: &Client) -> Result<()> {
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

    /// Stops the server as an orchestrator would, and checks that it exits cleanly.
    pub async fn stop(mut self) -> Result<()> {
        let id = self.process.id().context("the server has ended")?;
        let kill = Command::new("kill").arg(id.to_string()).status().await?;
        ensure!(kill.success(), "the server can't be signalled");
        let status = self.process.wait().await?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}
