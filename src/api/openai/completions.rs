//! `POST /v1/completions`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::logprobs::CompletionLogprobs;
use super::request::{OpenAiJson, OpenAiRequest, image_required};
use super::stream::{self, Chunks};
use super::{OpenAiProblems, OpenAiUsage, finish_reason};
use crate::api::error::ApiError;
use crate::api::extract::image_source::ImageSource;
use crate::api::job::{Head, Job, Prompt, Task, Wording};
use crate::api::respond::shapes::TokenLogprob;
use crate::api::respond::whole::collect_text;
use crate::api::state::AppState;
use crate::engine::Summary;

const OBJECT: &str = "text_completion";

/// Fields of a completion request, beside those that `/v1/chat/completions` takes too.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CompletionFields {
    /// The prompt as PaliGemma sees it, without the newline that ends it.
    #[schema(example = "caption en")]
    prompt: PromptField,
    /// The image, which OpenAI's API has no field for: base64, a `data:` URL, or an https URL of an
    /// allowed host.
    #[schema(example = "data:image/png;base64,iVBORw0KGgo…")]
    image: Option<String>,
    /// Instead of `image`: the `x-image-key` of an earlier answer about it.
    image_key: Option<String>,
    /// Report the tokens' log-probabilities, and of that many of the likeliest ones.
    #[schema(minimum = 0, maximum = 20)]
    logprobs: Option<i64>,
}

/// One prompt, by itself or in a list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a text, or a list of one text")]
enum PromptField {
    One(String),
    List([String; 1]),
}

/// An answer, or a piece of a streamed one.
#[derive(Debug, Serialize, ToSchema)]
pub struct Completion {
    #[serde(flatten)]
    head: Head,
    /// One, or none in the chunk that tells the usage.
    choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<OpenAiUsage>,
}

/// The only choice.
#[derive(Debug, Serialize, ToSchema)]
pub struct CompletionChoice {
    index: usize,
    #[schema(example = "a red circle")]
    text: String,
    logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`; in a stream only the last piece has it.
    #[schema(example = "stop")]
    finish_reason: Option<&'static str>,
}

/// Complete a prompt about an image, as OpenAI's API does
///
/// For clients that speak that protocol, with `image` beside its fields. Unknown fields are ignored.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "openai",
    request_body = OpenAiJson<CompletionFields>,
    responses(
        (status = 200, description = "The answer.", content(
            (Completion = "application/json"),
            (Completion = "text/event-stream"),
        )),
        OpenAiProblems,
    ),
    security((), ("key" = [])),
)]
pub async fn completions(
    State(state): State<AppState>,
    mut request: OpenAiRequest<CompletionFields>,
) -> Result<Response, ApiError> {
    let include_usage = request.shared.include_usage();
    let logprobs = request.fields.logprobs;
    let (sent, named) = (request.fields.image.take(), request.fields.image_key.take());
    let image = match (sent, named) {
        (Some(image), _) => ImageSource::text("image", image.into()),
        (None, Some(key)) => ImageSource::key("image_key", key),
        (None, None) => return Err(image_required("image", "send it as `image`")),
    };
    let prompt = match &mut request.fields.prompt {
        PromptField::One(prompt) | PromptField::List([prompt]) => std::mem::take(prompt),
    };
    let task = Task {
        name: "cmpl",
        prompts: vec![Prompt {
            image: 0,
            wording: Wording::Text(prompt),
            param: "prompt".to_owned(),
        }],
        needs_probabilities: false,
    };
    let job = Job::start(&state, task, request.common(image, None, logprobs)).await?;
    let mut chunks = CompletionChunks {
        head: job.head.clone().with_object(OBJECT),
        offset: 0,
    };
    if job.stream {
        return stream::answer(job, chunks, include_usage).await;
    }
    let reported = job.logprobs;
    let (text, tokens, summary) = collect_text(job).await?;
    let mut answer = chunks.delta(text, reported.then_some(tokens));
    for choice in &mut answer.choices {
        choice.finish_reason = Some(finish_reason(&summary));
    }
    answer.usage = Some(OpenAiUsage::from(&summary));
    Ok(Json(answer).into_response())
}

struct CompletionChunks {
    head: Head,
    /// Characters written so far.
    offset: usize,
}

impl CompletionChunks {
    fn chunk(
        &self,
        text: String,
        logprobs: Option<CompletionLogprobs>,
        finish_reason: Option<&'static str>,
    ) -> Completion {
        let choice = CompletionChoice {
            index: 0,
            text,
            logprobs,
            finish_reason,
        };
        Completion {
            head: self.head.clone(),
            choices: vec![choice],
            usage: None,
        }
    }
}

impl Chunks for CompletionChunks {
    type Chunk = Completion;

    fn first(&self) -> Option<Completion> {
        None
    }

    fn delta(&mut self, text: String, tokens: Option<Vec<TokenLogprob>>) -> Completion {
        let logprobs = tokens.map(|tokens| CompletionLogprobs::new(tokens, &mut self.offset));
        self.chunk(text, logprobs, None)
    }

    fn last(&self, summary: &Summary) -> Completion {
        self.chunk(String::new(), None, Some(finish_reason(summary)))
    }

    fn usage(&self, usage: OpenAiUsage) -> Completion {
        Completion {
            head: self.head.clone(),
            choices: Vec::new(),
            usage: Some(usage),
        }
    }
}
