//! Streamed answers: server-sent events.
//!
//! `delta` and `result` for each prompt, side by side, then one `done`; or `error`, which ends the
//! stream. The answer's status is decided by the first event: until then nothing is sent, not even
//! headers, so that a request that fails in the queue or in prefill has its real status.

use std::convert::Infallible;
use std::mem;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{SelectAll, select_all};
use futures::{Stream, StreamExt};
use serde::Serialize;
use tracing::Span;

use super::answer::{AnswerText, ReadAnswer};
use super::error::{ApiError, ErrorCode};
use super::job::{Job, cut_off, failure};
use super::problem::Problem;
use super::response::{Delta, Done, TokenLogprob, totals};
use crate::engine::{Event, Summary};

/// Tells nginx to pass events on at once.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Waits for the first event, and streams from there on.
///
/// # Errors
/// What failed before the first event.
pub async fn answer<T: Serialize + Send + 'static>(
    mut job: Job,
    read: impl ReadAnswer<T>,
) -> Result<Response, ApiError> {
    let generations = mem::take(&mut job.generations);
    let answers = generations.iter().map(|_| Some(AnswerText::default()));
    let mut events = Events {
        answers: answers.collect(),
        summaries: Vec::new(),
        read,
        job,
    };
    let indexed = generations.into_iter().enumerate();
    let mut incoming =
        select_all(indexed.map(|(index, generation)| generation.map(move |event| (index, event))));
    let (index, event) = incoming.next().await.ok_or_else(cut_off)?;
    let first = events.write(index, event)?;
    let keep_alive = KeepAlive::new().interval(events.job.keep_alive);
    let sse = Sse::new(events.run(first, incoming).fuse().map(Ok::<_, Infallible>));
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (NO_BUFFERING, HeaderValue::from_static("no")),
    ];
    Ok((headers, sse.keep_alive(keep_alive)).into_response())
}

/// Turns what generations yield into server-sent events.
struct Events<R> {
    /// By index; None when it has its result.
    answers: Vec<Option<AnswerText>>,
    summaries: Vec<Summary>,
    read: R,
    job: Job,
}

impl<R> Events<R> {
    /// All events, from `first` to `done` or `error`.
    fn run<T, S>(
        mut self,
        first: Option<SseEvent>,
        mut incoming: SelectAll<S>,
    ) -> impl Stream<Item = SseEvent> + Send
    where
        T: Serialize,
        R: ReadAnswer<T>,
        S: Stream<Item = (usize, Event)> + Unpin + Send,
    {
        let span = Span::current();
        async_stream::stream! {
            if let Some(event) = first {
                yield event;
            }
            while let Some((index, event)) = incoming.next().await {
                match self.write(index, event) {
                    Ok(Some(event)) => yield event,
                    Ok(None) => {}
                    Err(error) => {
                        yield span.in_scope(|| self.error(&error));
                        return;
                    }
                }
            }
            yield match self.done() {
                Ok(event) => event,
                Err(error) => span.in_scope(|| self.error(&error)),
            };
        }
    }

    /// The event that tells of `event`; None when there is nothing to tell.
    fn write<T: Serialize>(
        &mut self,
        index: usize,
        event: Event,
    ) -> Result<Option<SseEvent>, ApiError>
    where
        R: ReadAnswer<T>,
    {
        match event {
            Event::Delta { text, tokens } => {
                if text.is_empty() && tokens.is_empty() {
                    return Ok(None);
                }
                let tokens: Vec<_> = tokens.into_iter().map(TokenLogprob::from).collect();
                if let Some(answer) = &mut self.answers[index] {
                    answer.push(&text, tokens.iter().cloned());
                }
                let logprobs = self.job.logprobs.then_some(tokens);
                let delta = Delta {
                    index,
                    text,
                    logprobs,
                };
                named("delta", &delta).map(Some)
            }
            Event::Finished(summary) => {
                let answer = self.answers[index].take().ok_or_else(cut_off)?;
                let result = answer.into_result(index, &summary, self.job.logprobs, &self.read);
                self.summaries.push(summary);
                named("result", &result).map(Some)
            }
            Event::Failed(reason) => Err(failure(reason)),
        }
    }

    fn done(&self) -> Result<SseEvent, ApiError> {
        if self.answers.iter().any(Option::is_some) {
            return Err(cut_off());
        }
        let (usage, timings) = totals(self.summaries.iter(), self.job.arrived.elapsed());
        let head = self.job.head.clone();
        named(
            "done",
            &Done {
                head,
                usage,
                timings,
            },
        )
    }

    fn error(&self, error: &ApiError) -> SseEvent {
        tracing::warn!(code = ?error.code, "stream ended by an error: {error}");
        let problem = Problem::new(error, &self.job.request_id);
        // A problem document is texts and numbers, which always serialise.
        named("error", &problem).unwrap_or_else(|_| SseEvent::default().event("error").data("{}"))
    }
}

fn named(name: &str, data: &impl Serialize) -> Result<SseEvent, ApiError> {
    SseEvent::default()
        .event(name)
        .json_data(data)
        .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))
}
