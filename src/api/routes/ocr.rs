//! `POST /v1/ocr`: the text in one image, or in each of several.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::text_task::{self, TextTask};
use crate::api::error::ApiError;
use crate::api::extract::body::Submission;
use crate::api::extract::task_fields::{SEVERAL_IMAGES, TaskFields};
use crate::api::job::Prompt;
use crate::api::openapi::{Events, ImagesForm, ImagesJson, Problems};
use crate::api::respond::shapes::TaskResponse;
use crate::api::state::AppState;
use crate::tasks::ocr::PROMPT;

/// Text recognition has no fields of its own.
#[derive(Debug, Deserialize, ToSchema)]
pub struct OcrFields {}

impl TaskFields for OcrFields {
    const IMAGE_FIELDS: &'static [&'static str] = SEVERAL_IMAGES;
}

/// The text in one image.
#[derive(Debug, Serialize, ToSchema)]
pub struct Recognized {
    #[schema(example = "STOP")]
    pub text: String,
}

impl TextTask for OcrFields {
    const NAME: &'static str = "ocr";
    type Output = Recognized;

    fn prompts(self, images: usize) -> Result<Vec<Prompt>, ApiError> {
        Ok(Prompt::for_each_image(images, PROMPT, "image"))
    }

    fn output(text: String) -> Recognized {
        Recognized { text }
    }
}

/// Read text
///
/// The text in each image, in the order in which they were sent.
#[utoipa::path(
    post,
    path = "/v1/ocr",
    tag = "tasks",
    request_body(content(
        (ImagesJson<OcrFields> = "application/json", examples(("image" = (
            summary = "The text of one image; the demo has not learnt to read",
            value = json!({"image": "IMAGE", "max_tokens": 8}),
        )))),
        (ImagesForm<OcrFields> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "The texts.", content(
            (TaskResponse<Recognized> = "application/json"),
            (Events<Recognized> = "text/event-stream"),
        )),
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn ocr(
    State(state): State<AppState>,
    submission: Submission<OcrFields>,
) -> Result<Response, ApiError> {
    text_task::run(state, submission).await
}
