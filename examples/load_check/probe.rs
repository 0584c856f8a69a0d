//! What an orchestrator asks meanwhile, and how long it waits for the answer.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use paligemma_server::http_client;

const PATHS: [&str; 3] = ["/health/live", "/health/ready", "/metrics"];

/// Times of every answer, in milliseconds, by path.
pub struct Probes([Vec<f64>; 3]);

/// Asks each path every 50 ms. A server under load is still ready.
pub async fn until(end: Instant, url: String) -> Result<Probes> {
    let client = http_client::builder().build()?;
    let mut times = Probes(Default::default());
    while Instant::now() < end {
        for (path, times) in PATHS.iter().zip(&mut times.0) {
            let began = Instant::now();
            let answer = client.get(format!("{url}{path}")).send().await?;
            ensure!(answer.status().is_success(), "{path}: {}", answer.status());
            answer.bytes().await?;
            times.push(1e3 * began.elapsed().as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(times)
}

impl Probes {
    pub fn report(mut self) {
        for (path, times) in PATHS.iter().zip(&mut self.0) {
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
            println!(
                "{path}: {} times, median {:.1} ms, 99 % within {:.1} ms",
                times.len(),
                at(0.5),
                at(0.99)
            );
        }
    }
}
