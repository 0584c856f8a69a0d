//! Streamed answers as OpenAI's clients read them: `data:` lines and, at the end, `[DONE]`.

use axum::response::Response;
use axum::response::sse::Event as SseEvent;
use futures::{Stream, StreamExt};
use serde::Serialize;
use tracing::Span;

use super::{OpenAiError, OpenAiUsage};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::job::{Job, cut_off, failure};
use crate::api::respond::shapes::TokenLogprob;
use crate::api::respond::stream::event_stream;
use crate::engine::{Event, Generation, Summary};

/// Makes a route's chunks.
pub trait Chunks: Send + 'static {
    type Chunk: Serialize + Send;

    /// What comes before any text.
    fn first(&self) -> Option<Self::Chunk>;
    /// A piece of text and, when they are reported, its tokens.
    fn delta(&mut self, text: String, tokens: Option<Vec<TokenLogprob>>) -> Self::Chunk;
    fn last(&self, summary: &Summary) -> Self::Chunk;
    /// What tells the usage, after the last.
    fn usage(&self, usage: OpenAiUsage) -> Self::Chunk;
}

/// Waits for the first event, and streams from there on.
///
/// # Errors
/// What failed before the first event.
pub async fn answer<C: Chunks>(
    mut job: Job,
    chunks: C,
    include_usage: bool,
) -> Result<Response, ApiError> {
    let mut generation = job.generations.pop().ok_or_else(cut_off)?;
    let first = generation.next().await.ok_or_else(cut_off)?;
    if let Event::Failed(reason) = first {
        return Err(failure(reason));
    }
    let writer = Writer {
        chunks,
        include_usage,
        logprobs: job.logprobs,
    };
    Ok(event_stream(writer.run(first, generation), job.keep_alive))
}

struct Writer<C> {
    chunks: C,
    include_usage: bool,
    logprobs: bool,
}

impl<C: Chunks> Writer<C> {
    fn run(
        mut self,
        first: Event,
        mut generation: Generation,
    ) -> impl Stream<Item = SseEvent> + Send {
        let span = Span::current();
        async_stream::stream! {
            if let Some(chunk) = self.chunks.first() {
                yield data(&chunk);
            }
            let mut event = Some(first);
            while let Some(told) = event {
                match told {
                    Event::Delta { text, tokens } => yield self.delta(text, tokens),
                    Event::Finished(summary) => {
                        yield data(&self.chunks.last(&summary));
                        if self.include_usage {
                            yield data(&self.chunks.usage(OpenAiUsage::from(&summary)));
                        }
                        yield SseEvent::default().data("[DONE]");
                        return;
                    }
                    Event::Failed(reason) => {
                        yield span.in_scope(|| broken(&failure(reason)));
                        return;
                    }
                }
                event = generation.next().await;
            }
            yield span.in_scope(|| broken(&cut_off()));
        }
    }

    fn delta(&mut self, text: String, tokens: Vec<crate::engine::TokenInfo>) -> SseEvent {
        let tokens = tokens.into_iter().map(TokenLogprob::from);
        let tokens = self.logprobs.then(|| tokens.collect());
        data(&self.chunks.delta(text, tokens))
    }
}

/// The error that ends a stream.
fn broken(error: &ApiError) -> SseEvent {
    tracing::warn!(code = ?error.code, "stream ended by an error: {error}");
    data(&OpenAiError::new(error))
}

fn data(chunk: &impl Serialize) -> SseEvent {
    SseEvent::default()
        .json_data(chunk)
        .unwrap_or_else(|error| {
            // Chunks are texts and numbers, which always serialise.
            let error = ApiError::new(ErrorCode::Internal, error.to_string());
            SseEvent::default().data(error.detail)
        })
}
