//! `POST /v1/generate`: the model as it is, with any prompt.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::AppState;
use super::super::answer::answer;
use super::super::body::{ONE_IMAGE, Submission, TaskFields};
use super::super::error::ApiError;
use super::super::job::{Job, Prompt, Task, Wording};
use super::super::openapi::{Events, ImageForm, ImageJson, Problems};
use super::super::reader::text;
use super::super::response::Answer;

/// Fields of a generate request.
#[derive(Debug, Deserialize, ToSchema)]
pub struct GenerateFields {
    /// The prompt as PaliGemma sees it, without the newline that ends it. May be empty.
    #[schema(example = "caption en")]
    prompt: String,
}

impl TaskFields for GenerateFields {
    const IMAGE_FIELDS: &'static [&'static str] = ONE_IMAGE;
}

/// What the model generated.
#[derive(Debug, Serialize, ToSchema)]
pub struct Generated {
    /// Exactly as the tokenizer decodes it.
    #[schema(example = "cow on the beach")]
    pub text: String,
}

/// Give the model a prompt of your own
#[utoipa::path(
    post,
    path = "/v1/generate",
    tag = "tasks",
    request_body(content(
        (ImageJson<GenerateFields> = "application/json"),
        (ImageForm<GenerateFields> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "The text.", content(
            (Answer<Generated> = "application/json"),
            (Events<Generated> = "text/event-stream"),
        )),
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn generate(
    State(state): State<AppState>,
    Submission { task, common }: Submission<GenerateFields>,
) -> Result<Response, ApiError> {
    let prompt = Prompt {
        image: 0,
        wording: Wording::Text(task.prompt),
        param: "prompt".to_owned(),
    };
    let task = Task {
        name: "generate",
        prompts: vec![prompt],
        needs_probabilities: false,
    };
    let job = Job::start(&state, task, common).await?;
    answer(job, text(|text| Generated { text })).await
}
