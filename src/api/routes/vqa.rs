//! `POST /v1/vqa`: answers to one or several questions about an image.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::text_task::{self, TextTask};
use crate::api::error::ApiError;
use crate::api::extract::body::Submission;
use crate::api::extract::language::language;
use crate::api::extract::one_or_many::texts;
use crate::api::extract::task_fields::{ONE_IMAGE, TaskFields};
use crate::api::job::{Prompt, Wording};
use crate::api::openapi::{Events, ImageForm, ImageJson, Problems};
use crate::api::respond::shapes::TaskResponse;
use crate::api::state::AppState;
use crate::tasks::vqa::prompt;

/// Fields of a question request. Either `question` or `questions` is required.
#[derive(Debug, Deserialize, ToSchema)]
pub struct VqaFields {
    #[schema(pattern = r"\S", example = "Where is the cow standing?")]
    question: Option<String>,
    /// Several questions about the same image. In a form, repeat the field.
    #[schema(min_items = 1, max_items = 64)]
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

impl TextTask for VqaFields {
    const NAME: &'static str = "vqa";
    type Output = VqaAnswer;

    fn prompts(self, _images: usize) -> Result<Vec<Prompt>, ApiError> {
        let language = language(self.language)?;
        let questions = texts("question", self.question, self.questions)?;
        let prompts = questions.into_iter().map(|(param, question)| Prompt {
            image: 0,
            wording: Wording::Text(prompt(&question, &language)),
            param,
        });
        Ok(prompts.collect())
    }

    fn output(answer: String) -> VqaAnswer {
        VqaAnswer { answer }
    }
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
            (TaskResponse<VqaAnswer> = "application/json"),
            (Events<VqaAnswer> = "text/event-stream"),
        )),
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn vqa(
    State(state): State<AppState>,
    submission: Submission<VqaFields>,
) -> Result<Response, ApiError> {
    text_task::run(state, submission).await
}
