//! Answers: a whole one as JSON, or one that streams.

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::future::try_join_all;
use serde::Serialize;

use super::error::ApiError;
use super::job::{Job, cut_off, failure};
use super::response::{self, TaskResult, TokenLogprob};
use super::stream;
use crate::engine::{Event, Generation, Summary};

/// Makes a task's fields of the text that answers the prompt of that index.
pub trait ReadAnswer<T>: Fn(usize, String) -> T + Send + 'static {}
impl<T, F: Fn(usize, String) -> T + Send + 'static> ReadAnswer<T> for F {}

/// Answers `job` in the way that its request asked for.
///
/// # Errors
/// Whatever goes wrong before there is anything to send.
pub async fn answer<T: Serialize + Send + 'static>(
    job: Job,
    read: impl ReadAnswer<T>,
) -> Result<Response, ApiError> {
    if job.stream {
        return stream::answer(job, read).await;
    }
    let collected = try_join_all(job.generations.into_iter().map(collect)).await?;
    let summaries = collected.iter().map(|(_, summary)| summary);
    let (usage, timings) = response::totals(summaries, job.arrived.elapsed());
    let results = collected
        .into_iter()
        .enumerate()
        .map(|(index, (text, summary))| text.into_result(index, &summary, job.logprobs, &read));
    let answer = response::Answer {
        head: job.head,
        results: results.collect(),
        usage,
        timings,
    };
    Ok(Json(answer).into_response())
}

async fn collect(mut generation: Generation) -> Result<(AnswerText, Summary), ApiError> {
    let mut answer = AnswerText::default();
    while let Some(event) = generation.next().await {
        match event {
            Event::Delta { text, tokens } => {
                answer.push(&text, tokens.into_iter().map(TokenLogprob::from));
            }
            Event::Finished(summary) => return Ok((answer, summary)),
            Event::Failed(reason) => return Err(failure(reason)),
        }
    }
    Err(cut_off())
}

/// The text of one prompt's answer so far, and its tokens when they are reported.
#[derive(Debug, Default)]
pub struct AnswerText {
    text: String,
    tokens: Vec<TokenLogprob>,
}

impl AnswerText {
    pub fn push(&mut self, text: &str, tokens: impl IntoIterator<Item = TokenLogprob>) {
        self.text.push_str(text);
        self.tokens.extend(tokens);
    }

    /// The result of the prompt `index`.
    pub fn into_result<T>(
        self,
        index: usize,
        summary: &Summary,
        logprobs: bool,
        read: &impl ReadAnswer<T>,
    ) -> TaskResult<T> {
        TaskResult {
            index,
            task: read(index, self.text),
            finish_reason: summary.finish_reason.into(),
            usage: summary.usage.into(),
            logprobs: logprobs.then_some(self.tokens),
        }
    }
}
