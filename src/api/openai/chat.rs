//! `POST /v1/chat/completions`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::logprobs::ChatLogprobs;
use super::messages::{Asked, Message};
use super::request::{OpenAiJson, OpenAiRequest};
use super::stream::{self, Chunks};
use super::{OpenAiProblems, OpenAiUsage, finish_reason};
use crate::api::error::ApiError;
use crate::api::job::{Head, Job, Prompt, Task, Wording};
use crate::api::respond::shapes::TokenLogprob;
use crate::api::respond::whole::collect_text;
use crate::api::state::AppState;
use crate::engine::Summary;

/// Fields of a chat request, beside those that `/v1/completions` takes too.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChatFields {
    /// The last message of a user is the prompt. Its image is looked at or, when it has none, the
    /// last image that a user sent before. Messages of others are ignored: PaliGemma has no memory
    /// of what was said, and no system prompt.
    messages: Vec<Message>,
    /// The newer name of `max_tokens`, and stronger.
    #[schema(minimum = 1)]
    max_completion_tokens: Option<i64>,
    /// Whether to report the tokens' log-probabilities.
    #[schema(default = false)]
    logprobs: Option<bool>,
    /// How many of the likeliest tokens to report as well.
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<i64>,
}

/// A whole answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatCompletion {
    #[serde(flatten)]
    head: Head,
    choices: Vec<ChatChoice>,
    usage: OpenAiUsage,
}

/// The only choice.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatChoice {
    index: usize,
    message: AssistantMessage,
    logprobs: Option<ChatLogprobs>,
    /// `stop` or `length`.
    #[schema(example = "stop")]
    finish_reason: &'static str,
}

/// What the model says.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Answer)]
pub struct AssistantMessage {
    #[schema(example = "assistant")]
    role: &'static str,
    #[schema(example = "a red circle")]
    content: String,
}

/// A piece of a streamed answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatChunk {
    #[serde(flatten)]
    head: Head,
    /// One, or none in the chunk that tells the usage.
    choices: Vec<ChunkChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<OpenAiUsage>,
}

/// The only choice, in pieces.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChunkChoice {
    index: usize,
    delta: AssistantDelta,
    logprobs: Option<ChatLogprobs>,
    /// `stop` or `length`, in the last piece.
    finish_reason: Option<&'static str>,
}

/// What is new.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = AnswerDelta)]
pub struct AssistantDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

/// Answer a chat about an image, as OpenAI's API does
///
/// For clients that speak that protocol. The text of the last user message is the prompt, word for
/// word: `caption en`, `answer en how many shapes are there?`, `detect cat`. Unknown fields are
/// ignored.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "openai",
    request_body = OpenAiJson<ChatFields>,
    responses(
        (status = 200, description = "The answer.", content(
            (ChatCompletion = "application/json"),
            (ChatChunk = "text/event-stream"),
        )),
        OpenAiProblems,
    ),
    security((), ("key" = [])),
)]
pub async fn chat(
    State(state): State<AppState>,
    mut request: OpenAiRequest<ChatFields>,
) -> Result<Response, ApiError> {
    let include_usage = request.shared.include_usage();
    let logprobs = match request.fields.logprobs {
        Some(true) => Some(request.fields.top_logprobs.unwrap_or(0)),
        _ => None,
    };
    let max_tokens = request.fields.max_completion_tokens;
    let asked = Asked::read(std::mem::take(&mut request.fields.messages))?;
    let task = Task {
        name: "chatcmpl",
        prompts: vec![Prompt {
            image: 0,
            wording: Wording::Text(asked.prompt),
            param: asked.param,
        }],
        needs_probabilities: false,
    };
    let job = Job::start(
        &state,
        task,
        request.common(asked.image, max_tokens, logprobs),
    )
    .await?;
    let head = job.head.clone();
    if job.stream {
        return stream::answer(job, ChatChunks { head }, include_usage).await;
    }
    let reported = job.logprobs;
    let (text, tokens, summary) = collect_text(job).await?;
    let choice = ChatChoice {
        index: 0,
        message: AssistantMessage {
            role: ASSISTANT,
            content: text,
        },
        logprobs: reported.then(|| tokens.into()),
        finish_reason: finish_reason(&summary),
    };
    let answer = ChatCompletion {
        head: head.with_object("chat.completion"),
        choices: vec![choice],
        usage: OpenAiUsage::from(&summary),
    };
    Ok(Json(answer).into_response())
}

const ASSISTANT: &str = "assistant";

struct ChatChunks {
    head: Head,
}

impl ChatChunks {
    fn chunk(
        &self,
        delta: AssistantDelta,
        logprobs: Option<ChatLogprobs>,
        finish_reason: Option<&'static str>,
    ) -> ChatChunk {
        let choice = ChunkChoice {
            index: 0,
            delta,
            logprobs,
            finish_reason,
        };
        ChatChunk {
            head: self.head.clone().with_object("chat.completion.chunk"),
            choices: vec![choice],
            usage: None,
        }
    }
}

impl Chunks for ChatChunks {
    type Chunk = ChatChunk;

    fn first(&self) -> Option<ChatChunk> {
        let delta = AssistantDelta {
            role: Some(ASSISTANT),
            content: Some(String::new()),
        };
        Some(self.chunk(delta, None, None))
    }

    fn delta(&mut self, text: String, tokens: Option<Vec<TokenLogprob>>) -> ChatChunk {
        let delta = AssistantDelta {
            role: None,
            content: Some(text),
        };
        self.chunk(delta, tokens.map(ChatLogprobs::from), None)
    }

    fn last(&self, summary: &Summary) -> ChatChunk {
        self.chunk(
            AssistantDelta::default(),
            None,
            Some(finish_reason(summary)),
        )
    }

    fn usage(&self, usage: OpenAiUsage) -> ChatChunk {
        ChatChunk {
            head: self.head.clone().with_object("chat.completion.chunk"),
            choices: Vec::new(),
            usage: Some(usage),
        }
    }
}
