//! When a request got how far: its timings, its metrics, its log lines and its spans.

use std::time::{Duration, Instant};

use tracing::Span;

use super::{FinishReason, Timings};
use crate::telemetry::metrics;
use crate::telemetry::traces::RequestTrace;

/// The moments of one request's way through the engine. Each method is called when its moment has
/// come, records what follows from it, and logs within the span in which the request was
/// submitted, which carries the request's id.
#[derive(Debug)]
pub(super) struct Trace {
    span: Span,
    request: RequestTrace,
    image_tokens: usize,
    prompt_tokens: usize,
    submitted: Instant,
    started: Option<Instant>,
    /// When the vision tower was done with the image, if it had to work on it.
    encoded: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    /// Chosen so far, the end's counted.
    tokens: u32,
}

impl Trace {
    /// The request is submitted now, in the current span and trace.
    pub(super) fn new(image_tokens: usize, prompt_tokens: usize) -> Self {
        Self {
            span: Span::current(),
            request: RequestTrace::current(),
            image_tokens,
            prompt_tokens,
            submitted: Instant::now(),
            started: None,
            encoded: None,
            first_token: None,
            last_token: None,
            tokens: 0,
        }
    }

    /// The request left the queue. Only the first time counts: after a failure of the model it
    /// leaves the queue once more.
    pub(super) fn started(&mut self, slot: usize, now: Instant) {
        let _entered = self.span.enter();
        if self.started.is_some() {
            tracing::info!(slot, "prefilled again, after the model failed");
            return;
        }
        self.started = Some(now);
        let queued = now - self.submitted;
        tracing::debug!(slot, ?queued, "left the queue");
        metrics::started(queued, self.image_tokens, self.prompt_tokens);
    }

    /// The image's features, which were not cached, are there.
    pub(super) fn encoded(&mut self, now: Instant) {
        if self.encoded.is_none() {
            self.encoded = Some(now);
            metrics::vision(now - self.started.unwrap_or(self.submitted));
        }
    }

    /// A token was chosen.
    pub(super) fn token(&mut self, now: Instant) {
        self.tokens += 1;
        match self.last_token.replace(now) {
            Some(last) => metrics::next_token(now - last),
            None => {
                self.first_token = Some(now);
                let since_submission = now - self.submitted;
                let _entered = self.span.enter();
                tracing::debug!(?since_submission, "first token");
                metrics::first_token(self.timings(now).prefill, since_submission);
            }
        }
    }

    /// The answer is complete. Returns where its time went.
    pub(super) fn finished(&self, reason: FinishReason, now: Instant) -> Timings {
        let timings = self.timings(now);
        let reason = match reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        };
        let _entered = self.span.enter();
        tracing::debug!(reason, total = ?timings.total, "finished");
        metrics::finished(reason, self.tokens, timings.decode, timings.total);
        self.record_stages(now);
        timings
    }

    /// The client left.
    pub(super) fn cancelled(&self) {
        let stage = match (self.started, self.first_token) {
            (None, _) => "queue",
            (Some(_), None) => "prefill",
            (Some(_), Some(_)) => "decode",
        };
        let _entered = self.span.enter();
        tracing::debug!(stage, "cancelled");
        metrics::cancelled(stage);
        self.record_stages(Instant::now());
    }

    /// The request ended with an error; `reason` is one of those listed for the metric.
    pub(super) fn failed(&self, reason: &'static str) {
        let _entered = self.span.enter();
        tracing::debug!(reason, "failed");
        metrics::failed(reason);
        self.record_stages(Instant::now());
        self.request.failed(reason);
    }

    /// Spans of the stages that were begun; `now` ends the one that was not over.
    fn record_stages(&self, now: Instant) {
        let stage = |name, from: Option<Instant>, to: Option<Instant>| {
            if let Some(from) = from {
                self.request.stage(name, from, to.unwrap_or(now));
            }
        };
        stage("queue", Some(self.submitted), self.started);
        stage("vision", self.encoded.and(self.started), self.encoded);
        stage("prefill", self.encoded.or(self.started), self.first_token);
        stage("decode", self.first_token, self.last_token);
    }

    fn timings(&self, now: Instant) -> Timings {
        let between = |from: Option<Instant>, to: Option<Instant>| match (from, to) {
            (Some(from), Some(to)) => to - from,
            _ => Duration::ZERO,
        };
        Timings {
            queue: between(Some(self.submitted), self.started),
            vision: between(self.started, self.encoded),
            prefill: between(self.encoded.or(self.started), self.first_token),
            decode: between(self.first_token, self.last_token),
            total: now - self.submitted,
        }
    }
}
