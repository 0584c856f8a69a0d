//! What goes back to the client: whole responses, streams, and errors.
//!
//! [`shapes`] holds the JSON that every task answers with; [`problem`] writes an
//! [`ApiError`].
//! A task's [`output_parser::OutputParser`] turns generated text into the fields of a result.

pub mod output_parser;
mod partial;
pub mod problem;
mod progress;
pub mod protocol_problem;
pub mod shapes;
pub mod stream;
pub mod whole;

use std::time::{Duration, Instant};

use axum::response::Response;
use tokio::time::timeout_at;

use self::output_parser::OutputParser;
use self::partial::PartialAnswer;
use super::error::ApiError;
use super::job::{Job, failure};
use crate::engine::Failure;

/// How long after a deadline the engine may take to tell of it, which it does itself as long as it
/// has anything to do with the request.
const AFTER_ENGINE: Duration = Duration::from_millis(250);

/// Answers `job` as its request asked for: at once, or as a stream. `parser` makes the parser of
/// each prompt from its index.
///
/// # Errors
/// Whatever fails before anything was sent.
pub async fn answer<P: OutputParser>(
    job: Job,
    parser: impl FnMut(usize) -> P,
) -> Result<Response, ApiError> {
    let parsers = (0..job.generations.len()).map(parser);
    let tokenizer = job.logprobs.then(|| job.tokenizer.clone());
    let answers = parsers.map(|parser| PartialAnswer::new(parser, tokenizer.clone()));
    let answers = answers.collect();
    match job.stream {
        true => stream::answer(job, answers).await,
        false => within(job.deadline, whole::answer(job, answers)).await,
    }
}

/// Gives up `work` when a request's deadline has passed.
async fn within<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    match timeout_at((deadline + AFTER_ENGINE).into(), work).await {
        Ok(done) => done,
        Err(_) => Err(failure(Failure::DeadlineExceeded)),
    }
}
