//! `POST /v1/vqa`: answers to one or several questions about an image.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::AppState;
use super::super::answer::answer;
use super::super::body::{ONE_IMAGE, Submission, TaskFields};
use super::super::error::ApiError;
use super::super::job::{Job, Prompt, Task, Wording};
use super::super::one_or_several::texts;
use super::super::openapi::{Events, ImageForm, ImageJson, Problems};
use super::super::reader::text;
use super::super::response::Answer;
use super::language;
use crate::tasks::vqa::prompt;

/// Fields of a question request. Either `question` or `questions` is required.
#[derive(Debug, Deserialize, ToSchema)]
pub struct VqaFields {
    #[schema(
        nullable = false,
        pattern = r"\S",
        example = "Where is the cow standing?"
    )]
    question: Option<String>,
    /// Several questions about the same image. In a form, repeat the field.
    #[schema(nullable = false, min_items = 1, max_items = 64)]
    questions: Option<Vec<String>>,
    /// The language of the answer, as far as the checkpoint knows it.
    #[schema(
        default = "en",
        pattern = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$",
        example = "en"
    )]
    language: Option<String>,
}

impl TaskFields for VqaFields {
    const IMAGE_FIELDS: &'static [&'static str] = ONE_IMAGE;
}

/// The answer to one question.
#[derive(Debug, Serialize, ToSchema)]
pub struct VqaAnswer {
    #[schema(example = "beach")]
    pub answer: String,
}

/// Answer questions about an image
///
/// One answer for each question, in the order in which they were sent. The image is worked on once.
#[utoipa::path(
    post,
    path = "/v1/vqa",
    tag = "tasks",
    request_body(content(
        (ImageJson<VqaFields> = "application/json"),
        (ImageForm<VqaFields> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "The answers.", content(
            (Answer<VqaAnswer> = "application/json"),
            (Events<VqaAnswer> = "text/event-stream"),
        )),
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn vqa(
    State(state): State<AppState>,
    Submission { task, common }: Submission<VqaFields>,
) -> Result<Response, ApiError> {
    let language = language(task.language)?;
    let questions = texts("question", task.question, task.questions)?;
    let prompts = questions.into_iter().map(|(param, question)| Prompt {
        image: 0,
        wording: Wording::Text(prompt(&question, &language)),
        param,
    });
    let task = Task {
        name: "vqa",
        prompts: prompts.collect(),
        needs_probabilities: false,
    };
    let job = Job::start(&state, task, common).await?;
    answer(job, text(|answer| VqaAnswer { answer })).await
}
