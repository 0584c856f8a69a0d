//! Answers: a whole one as JSON, or one that streams.

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::future::try_join_all;

use super::error::ApiError;
use super::job::{Job, cut_off, failure};
use super::reader::{AnswerReader, text};
use super::response::{self, TaskResult, TokenLogprob};
use super::stream;
use crate::engine::{Event, Generation, Summary};

/// Answers `job` in the way that its request asked for; `reader` is made for each prompt, whose
/// index it is given.
///
/// # Errors
/// Whatever goes wrong before there is anything to send.
pub async fn answer<R: AnswerReader>(
    job: Job,
    mut reader: impl FnMut(usize) -> R,
) -> Result<Response, ApiError> {
    let readers = (0..job.generations.len()).map(&mut reader);
    let answers: Vec<_> = readers.map(PartialAnswer::new).collect();
    if job.stream {
        return stream::answer(job, answers).await;
    }
    let generations = job.generations.into_iter().zip(answers);
    let collected = generations.map(|(generation, answer)| collect(generation, answer));
    let collected = try_join_all(collected).await?;
    let summaries = collected.iter().map(|(_, summary)| summary);
    let (usage, timings) = response::totals(summaries, job.arrived.elapsed());
    let mut results = Vec::with_capacity(collected.len());
    for (index, (answer, summary)) in collected.into_iter().enumerate() {
        let (_, result) = answer.into_result(index, &summary, job.logprobs).await;
        results.push(result);
    }
    let answer = response::Answer {
        head: job.head,
        results,
        usage,
        timings,
    };
    Ok(Json(answer).into_response())
}

async fn collect<R: AnswerReader>(
    mut generation: Generation,
    mut answer: PartialAnswer<R>,
) -> Result<(PartialAnswer<R>, Summary), ApiError> {
    while let Some(event) = generation.next().await {
        match event {
            Event::Delta { text, tokens } => {
                let tokens = tokens.into_iter().map(TokenLogprob::from).collect();
                answer.push(&text, tokens).await;
            }
            Event::Finished(summary) => return Ok((answer, summary)),
            Event::Failed(reason) => return Err(failure(reason)),
        }
    }
    Err(cut_off())
}

/// The text, the tokens and the end of a job's only answer.
///
/// # Errors
/// Whatever ends the generation before its end.
pub async fn collect_text(mut job: Job) -> Result<(String, Vec<TokenLogprob>, Summary), ApiError> {
    let generation = job.generations.pop().ok_or_else(cut_off)?;
    let reader = PartialAnswer::new(text(|text| text)(0));
    let (answer, summary) = collect(generation, reader).await?;
    let (_, result) = answer.into_result(0, &summary, true).await;
    Ok((result.task, result.logprobs.unwrap_or_default(), summary))
}

/// The answer to one prompt so far.
#[derive(Debug)]
pub struct PartialAnswer<R> {
    reader: R,
    tokens: Vec<TokenLogprob>,
}

impl<R: AnswerReader> PartialAnswer<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            tokens: Vec::new(),
        }
    }

    /// Takes the next text and the tokens that it is made of; gives the objects that it completes.
    pub async fn push(&mut self, text: &str, tokens: Vec<TokenLogprob>) -> Vec<R::Object> {
        let objects = self.reader.push(text, &tokens).await;
        self.tokens.extend(tokens);
        objects
    }

    /// The last objects, and the result of the prompt `index`.
    pub async fn into_result(
        self,
        index: usize,
        summary: &Summary,
        logprobs: bool,
    ) -> (Vec<R::Object>, TaskResult<R::Fields>) {
        let (objects, task) = self.reader.finish().await;
        let result = TaskResult {
            index,
            task,
            finish_reason: summary.finish_reason.into(),
            usage: summary.usage.into(),
            logprobs: logprobs.then_some(self.tokens),
        };
        (objects, result)
    }
}
