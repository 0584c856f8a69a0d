//! One client's visit, and how it ended.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use rand::RngExt;
use rand::rngs::StdRng;
use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::mix::{Ask, answers};

/// What a client does with one request.
#[derive(Clone, Copy)]
pub enum Visit {
    Wait,
    Stream,
    /// Leaves this long after sending, whatever has arrived by then.
    LeaveAfter(Duration),
    /// Streams and leaves at the first event.
    LeaveInMidStream,
}

#[derive(Debug)]
pub enum Outcome {
    Answered,
    Refused,
    Left,
    /// It was wrong, and refused as it should be.
    Bad,
    Wrong(String),
}

impl Visit {
    pub fn draw(rng: &mut StdRng, leaving: f64) -> Self {
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

    pub async fn run(self, client: &Client, url: &str, ask: &Ask, alone: &[String]) -> Outcome {
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
                    // Sooner than Retry-After says: this is a load test.
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
        false => Outcome::Wrong(format!("{ours:?} under load, {alone:?} alone")),
    }
}
