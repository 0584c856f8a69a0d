//! What goes into the engine and what comes out of it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::Stream;
use tokio::sync::{mpsc, watch};

use crate::kernels::{Logprobs, Neighbours};
use crate::models::{AdapterId, Resident};
use crate::pixels::Pixels;
use crate::tokenizer::Tokenizer;

/// One prompt about one image.
#[derive(Debug, Clone)]
pub struct Request {
    /// The picture, already at the model's resolution.
    pub image: Arc<Pixels>,
    /// Which adapter answers; `None`: the base.
    pub adapter: Option<Answerer>,
    /// The prompt as PaliGemma sees it, without the final newline. May be empty.
    pub prompt: String,
    /// How many tokens may be generated.
    pub max_tokens: MaxTokens,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Generation ends before the first of these that appears in the text; none is ever empty.
    pub stop: Vec<String>,
    /// `Some(n)`: report the log-probability of each chosen token, and of the `n` likeliest ones.
    pub logprobs: Option<usize>,
    /// Tokens with neighbours that mean nearly the same: with `logprobs`, how likely they were
    /// together is reported, too.
    pub neighbours: Option<Neighbours>,
    /// The moment at which the request fails with [`Failure::DeadlineExceeded`].
    pub deadline: Option<Instant>,
}

/// An adapter that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answerer {
    pub id: AdapterId,
    /// Images look different to it, so their features can't be those of the base.
    pub sees_differently: bool,
}

impl From<&Resident> for Answerer {
    fn from(resident: &Resident) -> Self {
        Self {
            id: resident.id,
            sees_differently: resident.adapter.sees_differently(),
        }
    }
}

/// How many tokens may be generated, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxTokens {
    /// This many, or the request is refused when the context can't hold them.
    Exactly(usize),
    /// This many, or as many as image and prompt leave room for in the context.
    AtMost(usize),
}

/// How the next token is chosen. A temperature of 0 is greedy and ignores the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// At least 0; logits are divided by it.
    pub temperature: f64,
    /// Keep the smallest set of tokens whose probabilities add up to this; in `(0, 1]`.
    pub top_p: Option<f64>,
    /// Keep the `k` likeliest tokens; at least 1.
    pub top_k: Option<usize>,
    /// The same seed gives the same text. Drawn at random when absent.
    pub seed: Option<u64>,
}

impl Sampling {
    /// The likeliest token, always.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_p: None,
            top_k: None,
            seed: None,
        }
    }
}

/// What a [`Generation`] yields. The last event is always `Finished` or `Failed`, exactly once.
#[derive(Debug, Clone)]
pub enum Event {
    /// Newly finished text and, when `logprobs` was asked for, the tokens generated since the last
    /// delta. The text holds whole characters only and may be empty when there are tokens to
    /// report; all deltas' texts joined are exactly the answer.
    Delta {
        text: String,
        tokens: Vec<TokenInfo>,
    },
    /// The answer is complete.
    Finished(Summary),
    /// The answer could not be completed.
    Failed(Failure),
}

/// An event as it waits for its reader. Of tokens it holds the ids: all of an answer may wait, and
/// the texts of the likeliest tokens would take several times the memory.
#[derive(Debug)]
pub(super) enum Waiting {
    Delta {
        text: String,
        token: Option<(u32, Logprobs)>,
    },
    Finished(Summary),
    Failed(Failure),
}

impl Waiting {
    fn read(self, tokenizer: &Tokenizer) -> Event {
        match self {
            Self::Delta { text, token } => {
                let token = token.map(|(id, logprobs)| TokenInfo::new(tokenizer, id, logprobs));
                let tokens = token.into_iter().collect();
                Event::Delta { text, tokens }
            }
            Self::Finished(summary) => Event::Finished(summary),
            Self::Failed(failure) => Event::Failed(failure),
        }
    }
}

/// One generated token and its probability.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenInfo {
    /// The token's id.
    pub id: u32,
    /// The token by itself, as the tokenizer decodes it; may be a broken character's `\u{FFFD}`.
    pub text: String,
    /// What it adds to the answer, in UTF-8; may be a part of a character.
    pub bytes: Vec<u8>,
    /// Natural logarithm of the probability that the model gave it, at temperature 1.
    pub logprob: f32,
    /// The same for the token and its [`Neighbours`] together; without any, `logprob`.
    pub near_logprob: f32,
    /// The likeliest tokens at this place, likeliest first.
    pub top: Vec<TopLogprob>,
}

impl TokenInfo {
    /// The token of this id, with the texts that its tokenizer has.
    pub fn new(tokenizer: &Tokenizer, id: u32, logprobs: Logprobs) -> Self {
        let top = |(id, logprob): (u32, f32)| TopLogprob {
            id,
            text: tokenizer.decode(&[id]),
            bytes: tokenizer.bytes(id),
            logprob,
        };
        Self {
            id,
            text: tokenizer.decode(&[id]),
            bytes: tokenizer.bytes(id),
            logprob: logprobs.chosen,
            near_logprob: logprobs.near,
            top: logprobs.top.into_iter().map(top).collect(),
        }
    }
}

/// One of the likeliest tokens at some place.
#[derive(Debug, Clone, PartialEq)]
pub struct TopLogprob {
    pub id: u32,
    pub text: String,
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability at temperature 1.
    pub logprob: f32,
}

/// Why a generation ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its answer, or a stop string appeared.
    Stop,
    /// `max_tokens` were generated.
    Length,
}

/// How a generation went.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    pub finish_reason: FinishReason,
    pub usage: Usage,
    pub timings: Timings,
}

/// Tokens that a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens that stand for the image.
    pub image_tokens: usize,
    /// Tokens of the prompt, `<bos>` and the final newline included, image tokens not.
    pub prompt_tokens: usize,
    /// Tokens that were generated, the closing `<eos>` not included.
    pub completion_tokens: usize,
}

/// A request's tokens as they stand, readable at any time.
#[derive(Debug, Clone)]
pub struct UsageMeter {
    image_tokens: usize,
    prompt_tokens: usize,
    completion_tokens: Arc<AtomicUsize>,
}

impl UsageMeter {
    pub(super) fn new(image_tokens: usize, prompt_tokens: usize) -> Self {
        Self {
            image_tokens,
            prompt_tokens,
            completion_tokens: Arc::default(),
        }
    }

    /// Counts a token that was generated, and returns how many there are now.
    pub(super) fn count(&self) -> usize {
        self.completion_tokens.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The tokens by now.
    pub fn read(&self) -> Usage {
        Usage {
            image_tokens: self.image_tokens,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens.load(Ordering::Relaxed),
        }
    }
}

/// Where a request's time went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// From submission to the first work on it.
    pub queue: Duration,
    /// In the vision tower; zero when the image's features were cached.
    pub vision: Duration,
    /// In the decoder, up to the first token.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
    /// From submission to the end.
    pub total: Duration,
}

/// Why a generation ended badly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("the request did not finish within its deadline")]
    DeadlineExceeded,
    #[error("the server is shutting down and ended the request")]
    ShuttingDown,
    #[error("the model failed while it worked on the request: {0}")]
    Model(String),
}

/// A stream of one request's [`Event`]s. **Dropping it cancels the work**, wherever that stands.
pub struct Generation {
    events: mpsc::UnboundedReceiver<Waiting>,
    tokenizer: Arc<Tokenizer>,
    place: watch::Receiver<usize>,
    ended: bool,
    /// Outlives the generation, so that what a cancelled one took can be told.
    pub usage: UsageMeter,
}

impl Generation {
    /// The receiving end of `events`; the engine sees that this was dropped as `is_closed()`.
    pub(super) fn new(
        events: mpsc::UnboundedReceiver<Waiting>,
        tokenizer: Arc<Tokenizer>,
        place: watch::Receiver<usize>,
        usage: UsageMeter,
    ) -> Self {
        Self {
            events,
            tokenizer,
            place,
            ended: false,
            usage,
        }
    }

    /// Follows its place in the line for a slot: 1 is next, 0 is no longer in the line. Only falls.
    pub fn watch_place(&self) -> watch::Receiver<usize> {
        self.place.clone()
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("usage", &self.usage)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Stream for Generation {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let waiting = self.events.poll_recv(context);
        self.ended = matches!(
            &waiting,
            Poll::Ready(Some(Waiting::Finished(_) | Waiting::Failed(_)))
        );
        waiting.map(|waiting| Some(waiting?.read(&self.tokenizer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_answer_that_waits_takes_little_memory() {
        let logprobs = Logprobs {
            chosen: 0.0,
            near: 0.0,
            top: vec![(7, -1.0); 20],
        };
        let likeliest = logprobs.top.len() * std::mem::size_of_val(&logprobs.top[0]);
        let each = size_of::<Waiting>() + likeliest;
        assert!(512 * each < 200_000, "{each} bytes a token");
    }
}
