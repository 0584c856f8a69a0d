//! A request's way out: a row of logits becomes a token, text and events.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::generation::Waiting;
use super::sampler::{Row, SampledToken, Sampler};
use super::stop::StopStrings;
use super::trace::Trace;
use super::{Failure, FinishReason, Summary, UsageMeter};
use crate::kernels::{Logprobs, Report};
use crate::telemetry::metrics;
use crate::tokenizer::{Detokenizer, Tokenizer};

/// Chooses one request's tokens and sends what they become to its client. Emits exactly one final
/// event, even when dropped; nothing is sent after it.
pub(super) struct Output {
    events: mpsc::UnboundedSender<Waiting>,
    ended: bool,
    tokenizer: Arc<Tokenizer>,
    sampler: Sampler,
    detokenizer: Detokenizer,
    stop: StopStrings,
    max_tokens: usize,
    usage: UsageMeter,
    pub trace: Trace,
}

/// What one more token means for its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The sequence goes on with this token.
    Token(u32),
    /// The sequence is complete.
    Finished(FinishReason),
}

impl Output {
    /// An output of at most `max_tokens` tokens, at least 1.
    pub(super) fn new(
        events: mpsc::UnboundedSender<Waiting>,
        tokenizer: Arc<Tokenizer>,
        sampler: Sampler,
        stop: Vec<String>,
        max_tokens: usize,
        usage: UsageMeter,
        trace: Trace,
    ) -> Self {
        Self {
            events,
            ended: false,
            tokenizer,
            sampler,
            detokenizer: Detokenizer::default(),
            stop: StopStrings::new(stop),
            max_tokens,
            usage,
            trace,
        }
    }

    /// What choosing the next token takes of the logits, beside the likeliest one.
    pub(super) fn wanted(&self) -> Option<Report> {
        self.sampler.wanted()
    }

    /// Chooses the next token and sends the text that is certain with it.
    ///
    /// # Errors
    /// When the logits allow no choice.
    pub(super) fn accept(&mut self, row: &Row, now: Instant) -> Result<Next, Failure> {
        if !row.likeliest.finite {
            let text = "it gave numbers that are not finite (NaN or infinity)";
            return Err(Failure::Model(text.to_owned()));
        }
        let sampled = self.sampler.choose(row);
        let sampled = sampled
            .map_err(|error| Failure::Model(format!("no token could be sampled: {error}")))?;
        Ok(self.append(sampled, now))
    }

    /// Appends a sampled token, and says whether it ends the sequence.
    fn append(&mut self, sampled: SampledToken, now: Instant) -> Next {
        self.trace.token(now);
        if self.tokenizer.is_eos(sampled.id) {
            return Next::Finished(FinishReason::Stop);
        }
        let completion_tokens = self.usage.count();
        metrics::completion_token();
        let piece = self.detokenizer.push(&self.tokenizer, sampled.id);
        let (text, stopped) = self.stop.push(&piece);
        let token = sampled.logprobs.map(|logprobs| (sampled.id, logprobs));
        self.send_delta(text, token);
        match (stopped, completion_tokens == self.max_tokens) {
            (true, _) => Next::Finished(FinishReason::Stop),
            (false, true) => Next::Finished(FinishReason::Length),
            (false, false) => Next::Token(sampled.id),
        }
    }

    /// Ends well: sends the text that was held back, and the summary.
    pub(super) fn finish(&mut self, reason: FinishReason, now: Instant) {
        if self.ended {
            return;
        }
        let rest = self.detokenizer.finish(&self.tokenizer);
        let (mut text, stopped) = self.stop.push(&rest);
        text.push_str(&self.stop.finish());
        self.send_delta(text, None);
        let finish_reason = if stopped { FinishReason::Stop } else { reason };
        let summary = Summary {
            finish_reason,
            usage: self.usage.read(),
            timings: self.trace.finished(finish_reason, now),
        };
        self.end(Waiting::Finished(summary));
    }

    /// Ends with an error.
    pub(super) fn fail(&mut self, failure: Failure) {
        if self.ended {
            return;
        }
        self.trace.failed(match failure {
            Failure::DeadlineExceeded => "deadline",
            Failure::ShuttingDown => "shutdown",
            Failure::Model(_) => "model",
        });
        self.end(Waiting::Failed(failure));
    }

    /// Ends because the client has gone or, when it hasn't, because the deadline has passed.
    pub(super) fn abort(&mut self) {
        if !self.events.is_closed() {
            return self.fail(Failure::DeadlineExceeded);
        }
        if !self.ended {
            self.trace.cancelled();
            self.ended = true;
        }
    }

    fn send_delta(&self, text: String, token: Option<(u32, Logprobs)>) {
        if !self.ended && (!text.is_empty() || token.is_some()) {
            self.send(Waiting::Delta { text, token });
        }
    }

    fn end(&mut self, last: Waiting) {
        self.ended = true;
        self.send(last);
    }

    /// A receiver that has gone away is noticed by [`super::sequence::Sequence::is_over`].
    fn send(&self, event: Waiting) {
        let _ = self.events.send(event);
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let text = "it stopped before the answer was complete";
        self.fail(Failure::Model(text.to_owned()));
    }
}
