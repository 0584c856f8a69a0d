//! `POST /v1/generate`: the model as it is, with any prompt.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::text_task::{self, TextTask};
use crate::api::error::ApiError;
use crate::api::extract::body::Submission;
use crate::api::extract::task_fields::{ONE_IMAGE, TaskFields};
use crate::api::job::{Prompt, Wording};
use crate::api::openapi::{Events, ImageForm, ImageJson, Problems};
use crate::api::respond::shapes::TaskResponse;
use crate::api::state::AppState;

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

impl TextTask for GenerateFields {
    const NAME: &'static str = "generate";
    type Output = Generated;

    fn prompts(self, _images: usize) -> Result<Vec<Prompt>, ApiError> {
        let prompt = Prompt {
            image: 0,
            wording: Wording::Text(self.prompt),
            param: "prompt".to_owned(),
        };
        Ok(vec![prompt])
    }

    fn output(text: String) -> Generated {
        Generated { text }
    }
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
            (TaskResponse<Generated> = "application/json"),
            (Events<Generated> = "text/event-stream"),
        )),
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn generate(
    State(state): State<AppState>,
    submission: Submission<GenerateFields>,
) -> Result<Response, ApiError> {
    text_task::run(state, submission).await
}
