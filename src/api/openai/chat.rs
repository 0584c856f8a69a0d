//! `POST /v1/chat/completions`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::logprobs::ChatLogprobs;
use super::request::{OpenAiJson, OpenAiRequest, image_required};
use super::stream::{self, Chunks};
use super::{OpenAiProblems, OpenAiUsage, finish_reason};
use crate::api::AppState;
use crate::api::extract::image_source::ImageSource;
use crate::api::job::{Job, Prompt, Task, Wording};
use crate::api::respond::error::{ApiError, ErrorCode};
use crate::api::respond::shapes::{Head, TokenLogprob};
use crate::api::respond::whole::collect_text;
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

/// One message of a chat.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Message {
    #[schema(example = "user")]
    role: String,
    #[schema(value_type = Option<Content>)]
    content: Option<Value>,
}

/// A text, or parts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a text, or a list of parts of type `text` or `image_url`"
)]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    Text { text: String },
    ImageUrl { image_url: ImageUrl },
}

/// Where an image is: a `data:` URL, or an https URL of a host that the operator has allowed.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ImageUrl {
    #[schema(example = "data:image/png;base64,iVBORw0KGgo…")]
    url: String,
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

/// What a chat comes down to.
#[derive(Debug)]
struct Asked {
    prompt: String,
    image: ImageSource,
    /// The field that the prompt comes from.
    param: String,
}

impl Asked {
    fn read(messages: Vec<Message>) -> Result<Self, ApiError> {
        let mut prompt = None;
        let mut image = None;
        for (index, message) in messages.into_iter().enumerate() {
            if message.role != "user" {
                continue;
            }
            let param = format!("messages[{index}].content");
            let (text, mut images) = message.read(&param)?;
            if images.len() > 1 {
                let detail = format!(
                    "`{param}` has {} images; PaliGemma looks at one at a time",
                    images.len()
                );
                return Err(ApiError::new(ErrorCode::TooManyImages, detail).param(param));
            }
            image = images.pop().or(image);
            prompt = Some((text, param));
        }
        let Some((prompt, param)) = prompt else {
            let detail = "`messages` has no message of role `user`, which holds the prompt";
            return Err(ApiError::new(ErrorCode::MissingField, detail).param("messages"));
        };
        let how = "add a part `{\"type\": \"image_url\", \"image_url\": {\"url\": \"data:image/png;base64,…\"}}`";
        Ok(Self {
            prompt,
            image: image.ok_or_else(|| image_required("messages", how))?,
            param,
        })
    }
}

impl Message {
    /// Its texts, one a line, and its images.
    fn read(self, param: &str) -> Result<(String, Vec<ImageSource>), ApiError> {
        let content = self.content.map(serde_json::from_value).transpose();
        let content = content.map_err(|error: serde_json::Error| {
            let detail = format!("`{param}`: {error}");
            ApiError::new(ErrorCode::InvalidField, detail).param(param)
        })?;
        let parts = match content {
            None => Vec::new(),
            Some(Content::Text(text)) => vec![Part::Text { text }],
            Some(Content::Parts(parts)) => parts,
        };
        let (mut texts, mut images) = (Vec::new(), Vec::new());
        for (index, part) in parts.into_iter().enumerate() {
            match part {
                Part::Text { text } => texts.push(text),
                Part::ImageUrl { image_url } => {
                    let param = format!("{param}[{index}].image_url.url");
                    images.push(ImageSource::text(param, image_url.url.into()));
                }
            }
        }
        Ok((texts.join("\n"), images))
    }
}

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(messages: Value) -> Result<Asked, ApiError> {
        Asked::read(serde_json::from_value(messages).unwrap())
    }

    fn image(url: &str) -> Value {
        json!({"type": "image_url", "image_url": {"url": url, "detail": "low"}})
    }

    #[test]
    fn the_last_user_message_is_the_prompt_and_the_last_image_is_looked_at() {
        let asked = read(json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [image("first"), image_text("caption en")]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "user", "content": "answer en where?"},
        ]))
        .unwrap();
        assert_eq!(asked.prompt, "answer en where?");
        assert_eq!(asked.param, "messages[3].content");
        assert!(format!("{:?}", asked.image).contains("first"));
    }

    fn image_text(text: &str) -> Value {
        json!({"type": "text", "text": text})
    }

    #[test]
    fn chats_without_a_user_or_an_image_and_with_two_images_are_refused() {
        for (messages, code) in [
            (json!([]), ErrorCode::MissingField),
            (
                json!([{"role": "system", "content": "hi"}]),
                ErrorCode::MissingField,
            ),
            (
                json!([{"role": "user", "content": "hi"}]),
                ErrorCode::MissingField,
            ),
            (
                json!([{"role": "user", "content": [image("a"), image("b")]}]),
                ErrorCode::TooManyImages,
            ),
        ] {
            assert_eq!(read(messages.clone()).unwrap_err().code, code, "{messages}");
        }
    }
}
