//! `POST /v1/ocr`: the text in one image, or in each of several.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::AppState;
use super::super::answer::answer;
use super::super::body::{SEVERAL_IMAGES, Submission, TaskFields};
use super::super::error::ApiError;
use super::super::job::{Job, Prompt, Task};
use super::super::openapi::{Events, ImagesForm, ImagesJson, Problems};
use super::super::reader::text;
use super::super::response::Answer;
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

/// Read text
///
/// The text in each image, in the order in which they were sent.
#[utoipa::path(
    post,
    path = "/v1/ocr",
    tag = "tasks",
    request_body(content(
        (ImagesJson<OcrFields> = "application/json"),
        (ImagesForm<OcrFields> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "The texts.", content(
            (Answer<Recognized> = "application/json"),
            (Events<Recognized> = "text/event-stream"),
        )),
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn ocr(
    State(state): State<AppState>,
    Submission { common, .. }: Submission<OcrFields>,
) -> Result<Response, ApiError> {
    let task = Task {
        name: "ocr",
        prompts: Prompt::for_each_image(&common, PROMPT, "image"),
        needs_probabilities: false,
    };
    let job = Job::start(&state, task, common).await?;
    answer(job, text(|text| Recognized { text })).await
}
