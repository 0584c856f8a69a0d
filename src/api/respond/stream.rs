//! Streamed answers: server-sent events.
//!
//! `delta`, `object` and `result` for each prompt, side by side, then one `done`; or `error`, which
//! ends the stream. The response's status is decided by the first event: until then not even headers
//! are sent, so that a request that fails in the queue or in prefill has its real status. Who asks
//! for `queue_position` gives that up: `queued` may be the first event.

use std::convert::Infallible;
use std::mem;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{SelectAll, select_all};
use futures::{Stream, StreamExt};
use serde::Serialize;
use tracing::Span;

use super::partial::PartialAnswer;
use super::within;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::job::{Job, cut_off, failure};
use crate::api::respond::output_parser::OutputParser;
use crate::api::respond::problem::Problem;
use crate::api::respond::progress::{Progress, progress};
use crate::api::respond::shapes::{Delta, Done, ObjectFound, Queued, TokenLogprob, totals};
use crate::engine::{Event, Summary};

/// Tells nginx to pass events on at once.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Waits for the first event, and streams from there on.
///
/// # Errors
/// What failed before the first event.
pub async fn answer<P: OutputParser>(
    mut job: Job,
    answers: Vec<PartialAnswer<P>>,
) -> Result<Response, ApiError> {
    let generations = mem::take(&mut job.generations);
    let places = job.queue_position;
    let mut events = Events {
        answers: answers.into_iter().map(Some).collect(),
        summaries: Vec::new(),
        job,
    };
    let indexed = generations.into_iter().enumerate();
    let mut incoming = select_all(indexed.map(|(index, generation)| {
        progress(generation, places).map(move |progress| (index, progress))
    }));
    let (index, progress) = incoming.next().await.ok_or_else(cut_off)?;
    let first = within(events.job.deadline, events.write(index, progress)).await?;
    let keep_alive = events.job.keep_alive;
    Ok(event_stream(events.run(first, incoming), keep_alive))
}

/// A response of these events, with a comment after each silence of `keep_alive`.
pub fn event_stream(
    events: impl Stream<Item = SseEvent> + Send + 'static,
    keep_alive: Duration,
) -> Response {
    let sse = Sse::new(events.fuse().map(Ok::<_, Infallible>));
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (NO_BUFFERING, HeaderValue::from_static("no")),
    ];
    let keep_alive = KeepAlive::new().interval(keep_alive);
    (headers, sse.keep_alive(keep_alive)).into_response()
}

/// Turns what generations yield into server-sent events.
struct Events<P> {
    /// By index; None when it has its result.
    answers: Vec<Option<PartialAnswer<P>>>,
    summaries: Vec<Summary>,
    job: Job,
}

impl<P: OutputParser> Events<P> {
    /// All events, from `first` to `done` or `error`.
    fn run<S>(
        mut self,
        first: Vec<SseEvent>,
        mut incoming: SelectAll<S>,
    ) -> impl Stream<Item = SseEvent> + Send
    where
        S: Stream<Item = (usize, Progress)> + Unpin + Send,
    {
        let span = Span::current();
        async_stream::stream! {
            for event in first {
                yield event;
            }
            while let Some((index, progress)) = incoming.next().await {
                match within(self.job.deadline, self.write(index, progress)).await {
                    Ok(events) => {
                        for event in events {
                            yield event;
                        }
                    }
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

    /// The events that tell of `progress`.
    async fn write(&mut self, index: usize, progress: Progress) -> Result<Vec<SseEvent>, ApiError> {
        match progress {
            Progress::Queued(position) => Ok(vec![named("queued", &Queued { index, position })?]),
            Progress::Event(event) => self.write_event(index, event).await,
        }
    }

    async fn write_event(&mut self, index: usize, event: Event) -> Result<Vec<SseEvent>, ApiError> {
        match event {
            Event::Delta { text, tokens } => {
                let tokens: Vec<_> = tokens.into_iter().map(TokenLogprob::from).collect();
                let logprobs = self.job.logprobs.then(|| tokens.clone());
                let answer = self.answers[index].as_mut().ok_or_else(cut_off)?;
                let objects = answer.push(&text, tokens).await;
                let mut events = Vec::new();
                if !text.is_empty() || logprobs.as_ref().is_some_and(|tokens| !tokens.is_empty()) {
                    let delta = Delta {
                        index,
                        text,
                        logprobs,
                    };
                    events.push(named("delta", &delta)?);
                }
                events.extend(found::<P>(index, objects)?);
                Ok(events)
            }
            Event::Finished(summary) => {
                let answer = self.answers[index].take().ok_or_else(cut_off)?;
                let (objects, result) = answer.into_result(index, &summary).await;
                self.summaries.push(summary);
                let mut events = found::<P>(index, objects)?;
                events.push(named("result", &result)?);
                Ok(events)
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

fn found<P: OutputParser>(
    index: usize,
    objects: Vec<P::Object>,
) -> Result<Vec<SseEvent>, ApiError> {
    let events = objects
        .into_iter()
        .map(|object| named("object", &ObjectFound { index, object }));
    events.collect()
}

fn named(name: &str, data: &impl Serialize) -> Result<SseEvent, ApiError> {
    SseEvent::default()
        .event(name)
        .json_data(data)
        .map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))
}
