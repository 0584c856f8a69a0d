//! OpenAI's routes, for the clients that people already have.
//!
//! [`request`] reads what both routes share, [`chat`] and [`completions`] are the routes,
//! [`messages`] finds the prompt and the image of a chat, [`logprobs`] has the two ways of telling
//! probabilities, [`stream`] sends chunks, and [`error`] is OpenAI's error object.

pub mod chat;
pub mod completions;
mod error;
mod logprobs;
mod messages;
pub mod request;
mod stream;

pub use error::{OpenAiError, OpenAiProblems};

use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::{FinishReason, Summary};

/// Routes whose errors are OpenAI's.
pub const ROUTES: [&str; 2] = ["/v1/chat/completions", "/v1/completions"];

/// Tokens that were worked on.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct OpenAiUsage {
    /// Of the image and the prompt.
    #[schema(example = 260)]
    prompt_tokens: usize,
    #[schema(example = 6)]
    completion_tokens: usize,
    #[schema(example = 266)]
    total_tokens: usize,
}

impl From<&Summary> for OpenAiUsage {
    fn from(summary: &Summary) -> Self {
        let usage = &summary.usage;
        let prompt_tokens = usage.image_tokens + usage.prompt_tokens;
        Self {
            prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: prompt_tokens + usage.completion_tokens,
        }
    }
}

/// `stop`, or `length` when the most tokens were generated.
fn finish_reason(summary: &Summary) -> &'static str {
    match summary.finish_reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}
