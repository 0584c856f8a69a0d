//! Whole answers, sent as JSON when all of it is there.

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::future::try_join_all;

use super::output_parser::{OutputParser, text};
use super::partial::PartialAnswer;
use super::shapes::{TaskResponse, TokenLogprob, totals};
use super::within;
use crate::api::error::ApiError;
use crate::api::job::{Job, cut_off, failure};
use crate::engine::{Event, Generation, Summary};

/// Waits for all generations of `job`; `answers` are those to its prompts.
///
/// # Errors
/// The first failure of a generation.
pub async fn answer<P: OutputParser>(
    job: Job,
    answers: Vec<PartialAnswer<P>>,
) -> Result<Response, ApiError> {
    let generations = job.generations.into_iter().zip(answers);
    let collected = generations.map(|(generation, answer)| collect(generation, answer));
    let collected = try_join_all(collected).await?;
    let summaries = collected.iter().map(|(_, summary)| summary);
    let (usage, timings) = totals(summaries, job.arrived.elapsed());
    let mut results = Vec::with_capacity(collected.len());
    for (index, (answer, summary)) in collected.into_iter().enumerate() {
        let (_, result) = answer.into_result(index, &summary).await;
        results.push(result);
    }
    let response = TaskResponse {
        head: job.head,
        results,
        usage,
        timings,
    };
    Ok(Json(response).into_response())
}

async fn collect<P: OutputParser>(
    mut generation: Generation,
    mut answer: PartialAnswer<P>,
) -> Result<(PartialAnswer<P>, Summary), ApiError> {
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

/// The text, the tokens and the summary of a generation.
pub type Collected = (String, Vec<TokenLogprob>, Summary);

/// Those of a job's prompts, in their order.
///
/// # Errors
/// The first failure of a generation; the deadline.
pub async fn collect_texts(job: Job) -> Result<Vec<Collected>, ApiError> {
    let tokenizer = &job.tokenizer;
    let collected = job.generations.into_iter().map(async |generation| {
        let answer = PartialAnswer::new(text(|text| text)(0), Some(tokenizer.clone()));
        let (answer, summary) = collect(generation, answer).await?;
        let (_, result) = answer.into_result(0, &summary).await;
        Ok((result.task, result.logprobs.unwrap_or_default(), summary))
    });
    within(job.deadline, try_join_all(collected)).await
}

/// What `parser` makes of the answers to a job's prompts, in their order; it makes the parser of each
/// prompt from its index.
///
/// # Errors
/// As [`collect_texts`].
pub async fn collect_fields<P: OutputParser>(
    job: Job,
    parser: impl FnMut(usize) -> P,
) -> Result<Vec<P::Fields>, ApiError> {
    let parsers: Vec<_> = (0..job.generations.len()).map(parser).collect();
    let generations = job.generations.into_iter().zip(parsers);
    let collected = generations.map(async |(generation, parser)| {
        let (answer, summary) = collect(generation, PartialAnswer::new(parser, None)).await?;
        Ok(answer.into_result(0, &summary).await.1.task)
    });
    within(job.deadline, try_join_all(collected)).await
}

/// That of a job that has one prompt.
///
/// # Errors
/// As [`collect_texts`].
pub async fn collect_text(job: Job) -> Result<Collected, ApiError> {
    collect_texts(job).await?.pop().ok_or_else(cut_off)
}
