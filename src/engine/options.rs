//! How an engine is set up, what it is doing, and why it refuses a request.

use std::time::Duration;

use super::scheduler::Limits;

/// How large an [`EngineHandle`](super::EngineHandle)'s engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Sequences that may be in the model at the same time; at least 1.
    pub slots: usize,
    /// Requests that may wait beyond those that free slots can take at once; one more is refused.
    pub queue: usize,
    /// Tokens that a sequence may have: image, prompt and answer.
    pub context: usize,
    /// How long a step may spend on images and prefills beside its decode rows, which wait so much
    /// longer for their next token: the shorter, the more evenly they get them; the longer, the
    /// sooner a new request gets its first. A step runs a layer at least, however long that takes.
    pub max_token_gap: Duration,
    /// Prefix tokens that are computed together, unless one sequence has more: as many as the
    /// device needs to work at its best, since everyone in a batch waits for the last.
    pub prefill_batch_tokens: usize,
    /// Bytes of image features that may be kept; 0 keeps none.
    pub image_cache_bytes: usize,
    /// How often, within ten minutes, a model that failed is built again before the engine gives up.
    pub model_restarts: usize,
    /// After how long a step of the model counts as hanging, and the engine gives up.
    pub step_timeout: Duration,
}

impl EngineOptions {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            slots: self.slots,
            queue: self.queue,
            prefill_batch_tokens: self.prefill_batch_tokens,
        }
    }
}

/// What the engine is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The model is being loaded.
    Loading,
    /// Requests are taken on.
    Ready,
    /// The model failed and is being loaded again. Requests that were taken on will go on.
    Restarting,
    /// No more requests are taken on; those that were are finished.
    Draining,
    /// The model could not be loaded or has failed, for this reason. It does not come back.
    Failed(String),
}

/// Why the engine did not take a request on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    #[error("the queue is full ({queue} waiting); retry after the given delay")]
    QueueFull {
        queue: usize,
        /// How long to wait before retrying, by the rate at which requests have ended of late.
        retry_after: Duration,
    },
    #[error("{requests} generations at once are too many: at most {allowed} fit")]
    TooMany { requests: usize, allowed: usize },
    #[error(
        "the prompt is too long: {prompt_tokens} tokens of it and {image_tokens} of the image \
         leave no room for an answer in a context of {context} tokens"
    )]
    PromptTooLong {
        prompt_tokens: usize,
        image_tokens: usize,
        context: usize,
    },
    #[error("max_tokens is {max_tokens}: with this prompt it must be between 1 and {allowed}")]
    MaxTokens { max_tokens: usize, allowed: usize },
    #[error("the prompt could not be tokenized: {0}")]
    Tokenizer(String),
    #[error("the adapter is no longer served")]
    NoAdapter,
    #[error("the model is being loaded")]
    Loading,
    #[error("the server is shutting down")]
    Draining,
    #[error("the model has failed: {0}")]
    Failed(String),
}

impl SubmitError {
    /// The reason under which this is counted.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::QueueFull { .. } => "queue_full",
            Self::TooMany { .. }
            | Self::PromptTooLong { .. }
            | Self::MaxTokens { .. }
            | Self::Tokenizer(_)
            | Self::NoAdapter => "invalid",
            Self::Loading => "loading",
            Self::Draining => "draining",
            Self::Failed(_) => "failed",
        }
    }
}
