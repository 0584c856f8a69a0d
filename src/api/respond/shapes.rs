//! The shape in which every task route answers.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::job::Head;
use crate::engine::{FinishReason, Summary, Timings, TokenInfo, TopLogprob, Usage};
use crate::tasks::detection_parser::TokenProbability;

/// A whole answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Answer)]
pub struct TaskResponse<T> {
    #[serde(flatten)]
    pub head: Head,
    /// In the order of the images or questions sent.
    pub results: Vec<TaskResult<T>>,
    /// The sum over all results.
    pub usage: UsageReport,
    pub timings: TimingsReport,
}

/// The end of a streamed answer: everything that is not in a `result` event.
#[derive(Debug, Serialize, ToSchema)]
pub struct Done {
    #[serde(flatten)]
    pub head: Head,
    /// The sum over all results.
    pub usage: UsageReport,
    pub timings: TimingsReport,
}

/// The answer about one image or to one question.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskResult<T> {
    /// Which of the images or questions sent, from 0.
    pub index: usize,
    #[serde(flatten)]
    pub task: T,
    pub finish_reason: FinishReasonReport,
    pub usage: UsageReport,
    /// Present when `logprobs` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogprob>>,
}

/// A place in the queue; sent when `queue_position` was asked for, and only while a request waits.
#[derive(Debug, Serialize, ToSchema)]
pub struct Queued {
    /// Which of the images or questions sent, from 0.
    pub index: usize,
    /// 1 is next; 0 is sent when the wait is over. Only falls.
    #[schema(example = 3)]
    pub position: usize,
}

/// A piece of a streamed answer. All pieces of one index, joined, are its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delta {
    /// Which of the images or questions sent, from 0.
    pub index: usize,
    #[schema(example = "a cow on")]
    pub text: String,
    /// The tokens since the last piece; present when `logprobs` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogprob>>,
}

/// A part of a streamed answer that is complete before the rest is.
#[derive(Debug, Serialize, ToSchema)]
pub struct ObjectFound<O> {
    /// Which of the images sent, from 0.
    pub index: usize,
    #[serde(flatten)]
    pub object: O,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FinishReasonReport {
    /// The model ended its answer, or a stop text appeared.
    Stop,
    /// `max_tokens` were generated.
    Length,
}

impl From<FinishReason> for FinishReasonReport {
    fn from(reason: FinishReason) -> Self {
        match reason {
            FinishReason::Stop => Self::Stop,
            FinishReason::Length => Self::Length,
        }
    }
}

/// Tokens that were worked on.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub struct UsageReport {
    /// Tokens that stand for the image.
    #[schema(example = 256)]
    pub image_tokens: usize,
    /// Tokens of the prompt, the one that begins it and the newline that ends it included.
    #[schema(example = 4)]
    pub prompt_tokens: usize,
    /// Tokens that were generated.
    #[schema(example = 6)]
    pub completion_tokens: usize,
}

impl From<Usage> for UsageReport {
    fn from(usage: Usage) -> Self {
        Self {
            image_tokens: usage.image_tokens,
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
        }
    }
}

/// Where the time went, in milliseconds. Several results ran side by side: each figure but the
/// total is that of the result for which it was the longest.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub struct TimingsReport {
    /// Waiting for a place in the batch.
    #[schema(example = 0.2)]
    pub queue_ms: f64,
    /// In the vision tower; 0 when the image was known.
    #[schema(example = 41.0)]
    pub vision_ms: f64,
    /// From the image's features to the first token.
    #[schema(example = 63.5)]
    pub prefill_ms: f64,
    /// From the first token to the last.
    #[schema(example = 120.8)]
    pub decode_ms: f64,
    /// From the arrival of the request to the end of the answer.
    #[schema(example = 231.7)]
    pub total_ms: f64,
}

/// A generated token and the probability that the model gave it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TokenLogprob {
    pub id: u32,
    /// The token alone; a part of a character shows as U+FFFD.
    pub token: String,
    /// What it adds to the answer in UTF-8, for OpenAI's clients.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability at temperature 1.
    pub logprob: f32,
    /// The same of the token and its neighbours, for the scores of boxes.
    #[serde(skip)]
    pub near_logprob: f32,
    /// The likeliest tokens at this place, likeliest first.
    pub top: Vec<TopToken>,
}

impl From<&TokenLogprob> for TokenProbability {
    fn from(token: &TokenLogprob) -> Self {
        Self {
            logprob: token.logprob,
            near_logprob: token.near_logprob,
        }
    }
}

/// One of the likeliest tokens at some place.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TopToken {
    pub id: u32,
    pub token: String,
    #[serde(skip)]
    pub bytes: Vec<u8>,
    pub logprob: f32,
}

impl From<TokenInfo> for TokenLogprob {
    fn from(token: TokenInfo) -> Self {
        Self {
            id: token.id,
            token: token.text,
            bytes: token.bytes,
            logprob: token.logprob,
            near_logprob: token.near_logprob,
            top: token.top.into_iter().map(TopToken::from).collect(),
        }
    }
}

impl From<TopLogprob> for TopToken {
    fn from(token: TopLogprob) -> Self {
        Self {
            id: token.id,
            token: token.text,
            bytes: token.bytes,
            logprob: token.logprob,
        }
    }
}

/// Sums and longest times over the summaries of all results; `total` is the whole request's.
pub fn totals<'a>(
    summaries: impl Iterator<Item = &'a Summary>,
    total: Duration,
) -> (UsageReport, TimingsReport) {
    let mut usage = UsageReport::default();
    let mut longest = Timings::default();
    for Summary {
        usage: its,
        timings,
        ..
    } in summaries
    {
        usage.image_tokens += its.image_tokens;
        usage.prompt_tokens += its.prompt_tokens;
        usage.completion_tokens += its.completion_tokens;
        longest.queue = longest.queue.max(timings.queue);
        longest.vision = longest.vision.max(timings.vision);
        longest.prefill = longest.prefill.max(timings.prefill);
        longest.decode = longest.decode.max(timings.decode);
    }
    let timings = TimingsReport {
        queue_ms: milliseconds(longest.queue),
        vision_ms: milliseconds(longest.vision),
        prefill_ms: milliseconds(longest.prefill),
        decode_ms: milliseconds(longest.decode),
        total_ms: milliseconds(total),
    };
    (usage, timings)
}

/// Milliseconds, to the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
