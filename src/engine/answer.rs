//! One request on its way through the engine, and the sending end of its events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::sampler::{Choice, Logprobs, Row, Sampler};
use super::stop::StopStrings;
use super::{
    Event, Failure, FinishReason, Generation, Request, Summary, Timings, TokenInfo, TopLogprob,
    Usage,
};
use crate::models::DecodeRow;
use crate::pixels::Pixels;
use crate::telemetry::metrics;
use crate::tokenizer::Detokenizer;
use crate::tokenizer::Tokenizer;

/// A request that fits the context.
pub(super) struct Tokenized {
    pub request: Request,
    /// `<bos>`, the prompt and the newline.
    pub prompt: Vec<u32>,
    /// What the request may have of the context for its answer; at least 1.
    pub max_tokens: usize,
}

/// A request and all that becomes of it. Ends with exactly one last event, however it goes away.
pub(super) struct Answer {
    /// The picture that the request is about.
    pub image: Arc<Pixels>,
    /// `<bos>`, the prompt and the newline.
    pub prompt: Vec<u32>,
    events: mpsc::UnboundedSender<Event>,
    ended: bool,
    tokenizer: Arc<Tokenizer>,
    max_tokens: usize,
    deadline: Option<Instant>,
    sampler: Sampler,
    detokenizer: Detokenizer,
    stop: StopStrings,
    usage: Usage,
    /// The token that was generated last.
    last_token: u32,
    submitted: Instant,
    started: Option<Instant>,
    /// When the vision tower was done with the image, if it had to work on it.
    encoded: Option<Instant>,
    first_token_at: Option<Instant>,
    last_token_at: Option<Instant>,
}

impl Answer {
    /// Begins the answer to a request about an image of so many tokens.
    pub(super) fn new(
        tokenized: Tokenized,
        image_tokens: usize,
        tokenizer: Arc<Tokenizer>,
    ) -> (Self, Generation) {
        let Tokenized {
            request,
            prompt,
            max_tokens,
        } = tokenized;
        let (events, receiver) = mpsc::unbounded_channel();
        let answer = Self {
            image: request.image,
            events,
            ended: false,
            tokenizer,
            max_tokens,
            deadline: request.deadline,
            sampler: Sampler::new(&request.sampling, request.logprobs),
            detokenizer: Detokenizer::default(),
            stop: StopStrings::new(request.stop),
            usage: Usage {
                image_tokens,
                prompt_tokens: prompt.len(),
                completion_tokens: 0,
            },
            prompt,
            last_token: 0,
            submitted: Instant::now(),
            started: None,
            encoded: None,
            first_token_at: None,
            last_token_at: None,
        };
        (answer, Generation::new(receiver))
    }

    /// Tokens of the image and the prompt.
    pub(super) fn prefix_tokens(&self) -> usize {
        self.usage.image_tokens + self.usage.prompt_tokens
    }

    /// Nobody waits for the answer any more, or it is too late for it: time to [`Self::give_up`].
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.events.is_closed() || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// The request left the queue.
    pub(super) fn start(&mut self, now: Instant) {
        self.started = Some(now);
        metrics::started(
            now - self.submitted,
            self.usage.image_tokens,
            self.usage.prompt_tokens,
        );
    }

    /// The image's features, which were not cached, are there.
    pub(super) fn encoded(&mut self, now: Instant) {
        self.encoded = Some(now);
        metrics::vision(now - self.started.unwrap_or(self.submitted));
    }

    /// What the model computes for the next token.
    pub(super) fn decode_row(&self, slot: usize) -> DecodeRow {
        DecodeRow {
            slot,
            position: self.prefix_tokens() + self.usage.completion_tokens - 1,
            token: self.last_token,
        }
    }

    /// Whether choosing the next token takes the logits themselves.
    pub(super) fn needs_logits(&self) -> bool {
        self.sampler.needs_logits()
    }

    /// Chooses the next token.
    ///
    /// # Errors
    /// When the logits allow no choice.
    pub(super) fn choose(&mut self, row: &Row) -> Result<Choice, Failure> {
        if !row.finite {
            let text = "it gave numbers that are not finite (NaN or infinity)";
            return Err(Failure::Model(text.to_owned()));
        }
        let choice = self.sampler.choose(row);
        choice.map_err(|error| Failure::Model(format!("no token could be sampled: {error}")))
    }

    /// Takes the next token in; says whether it was the last.
    pub(super) fn push(&mut self, choice: Choice, now: Instant) -> Option<FinishReason> {
        self.note_token_time(now);
        if self.tokenizer.is_eos(choice.id) {
            return Some(FinishReason::Stop);
        }
        self.last_token = choice.id;
        self.usage.completion_tokens += 1;
        metrics::completion_token();
        let piece = self.detokenizer.push(&self.tokenizer, choice.id);
        let (text, stopped) = self.stop.push(&piece);
        let token = |logprobs| token_info(&self.tokenizer, choice.id, logprobs);
        self.send_delta(text, choice.logprobs.map(token).into_iter().collect());
        if stopped {
            return Some(FinishReason::Stop);
        }
        (self.usage.completion_tokens == self.max_tokens).then_some(FinishReason::Length)
    }

    /// Ends the answer well: sends the text that was held back, and the summary.
    pub(super) fn finish(mut self, reason: FinishReason, now: Instant) {
        let rest = self.detokenizer.finish(&self.tokenizer);
        let (mut text, stopped) = self.stop.push(&rest);
        text.push_str(&self.stop.finish());
        self.send_delta(text, Vec::new());
        let finish_reason = if stopped { FinishReason::Stop } else { reason };
        let timings = self.timings(now);
        let name = match finish_reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        };
        metrics::finished(name, timings.decode);
        self.end(Event::Finished(Summary {
            finish_reason,
            usage: self.usage,
            timings,
        }));
    }

    /// Ends the answer with an error.
    pub(super) fn fail(mut self, failure: Failure) {
        self.end_failed(failure);
    }

    /// Ends the answer because nobody waits for it or, when somebody does, because it is late.
    pub(super) fn give_up(mut self) {
        if !self.events.is_closed() {
            return self.end_failed(Failure::DeadlineExceeded);
        }
        metrics::cancelled(match (self.started, self.first_token_at) {
            (None, _) => "queue",
            (Some(_), None) => "prefill",
            (Some(_), Some(_)) => "decode",
        });
        self.ended = true;
    }

    fn send_delta(&self, text: String, tokens: Vec<TokenInfo>) {
        if !text.is_empty() || !tokens.is_empty() {
            self.send(Event::Delta { text, tokens });
        }
    }

    fn end_failed(&mut self, failure: Failure) {
        metrics::failed(match failure {
            Failure::DeadlineExceeded => "deadline",
            Failure::ShuttingDown => "shutdown",
            Failure::Model(_) => "model",
        });
        self.end(Event::Failed(failure));
    }

    fn end(&mut self, last: Event) {
        self.ended = true;
        self.send(last);
    }

    /// A receiver that has gone away is noticed before the next step, by [`Self::is_over`].
    fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    fn note_token_time(&mut self, now: Instant) {
        match self.last_token_at.replace(now) {
            Some(last) => metrics::next_token(now - last),
            None => {
                self.first_token_at = Some(now);
                metrics::first_token(self.timings(now).prefill, now - self.submitted);
            }
        }
    }

    fn timings(&self, now: Instant) -> Timings {
        let between = |from: Option<Instant>, to: Option<Instant>| match (from, to) {
            (Some(from), Some(to)) => to - from,
            _ => Duration::ZERO,
        };
        Timings {
            queue: between(Some(self.submitted), self.started),
            vision: between(self.started, self.encoded),
            prefill: between(self.encoded.or(self.started), self.first_token_at),
            decode: between(self.first_token_at, self.last_token_at),
            total: now - self.submitted,
        }
    }
}

impl Drop for Answer {
    /// An answer that is neither finished, failed nor given up still gets its last event.
    fn drop(&mut self) {
        if !self.ended {
            self.end_failed(Failure::Model(
                "it stopped before the answer was complete".into(),
            ));
        }
    }
}

fn token_info(tokenizer: &Tokenizer, id: u32, logprobs: Logprobs) -> TokenInfo {
    let top = |(id, logprob): (u32, f32)| TopLogprob {
        id,
        text: tokenizer.decode(&[id]),
        bytes: tokenizer.bytes(id),
        logprob,
    };
    TokenInfo {
        id,
        text: tokenizer.decode(&[id]),
        bytes: tokenizer.bytes(id),
        logprob: logprobs.chosen,
        top: logprobs.top.into_iter().map(top).collect(),
    }
}
