//! What goes back to the client: whole responses, streams, and errors.
//!
//! [`shapes`] holds the JSON that every task answers with; [`problem`] writes an
//! [`ApiError`].
//! A task's [`output_parser::OutputParser`] turns generated text into the fields of a result.

pub mod output_parser;
mod partial;
pub mod problem;
mod progress;
pub mod shapes;
pub mod stream;
pub mod whole;

use axum::response::Response;

use self::output_parser::OutputParser;
use self::partial::PartialAnswer;
use super::error::ApiError;
use super::job::Job;

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
    let answers = parsers.map(PartialAnswer::new).collect();
    match job.stream {
        true => stream::answer(job, answers).await,
        false => whole::answer(job, answers).await,
    }
}
