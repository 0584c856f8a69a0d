//! `POST /v1/caption`: what is in one image, or in each of several.

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
use super::language;
use crate::tasks::caption::{Length, prompt};

/// Fields of a caption request.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CaptionFields {
    /// The language of the caption, as far as the checkpoint knows it.
    #[schema(default = "en", example = "en")]
    language: Option<String>,
    /// How much it says.
    #[serde(default)]
    length: Option<Length>,
}

impl TaskFields for CaptionFields {
    const IMAGE_FIELDS: &'static [&'static str] = SEVERAL_IMAGES;
}

/// The caption of one image.
#[derive(Debug, Serialize, ToSchema)]
pub struct Caption {
    #[schema(example = "a cow standing on a beach")]
    pub caption: String,
}

/// A stream, for the contract.
const STREAM: &str = r#"event: delta
data: {"index":0,"text":"a cow on a beach"}

event: result
data: {"index":0,"caption":"a cow on a beach","finish_reason":"stop","usage":{"image_tokens":256,"prompt_tokens":4,"completion_tokens":4}}

event: done
data: {"id":"caption-5f0c6a52f1f94f8e9c1d3f6f0a9b7e21","object":"caption","created":1767225600,"model":"paligemma2-3b-mix-224","usage":{"image_tokens":256,"prompt_tokens":4,"completion_tokens":4},"timings":{"queue_ms":0.2,"vision_ms":41.0,"prefill_ms":63.5,"decode_ms":120.8,"total_ms":231.7}}

"#;

/// Describe images
///
/// One caption for each image, in the order in which they were sent.
#[utoipa::path(
    post,
    path = "/v1/caption",
    tag = "tasks",
    request_body(content(
        (ImagesJson<CaptionFields> = "application/json"),
        (ImagesForm<CaptionFields> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "The captions.", content(
            (Answer<Caption> = "application/json"),
            (Events<Caption> = "text/event-stream", example = json!(STREAM)),
        )),
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn caption(
    State(state): State<AppState>,
    Submission { task, common }: Submission<CaptionFields>,
) -> Result<Response, ApiError> {
    let language = language(task.language)?;
    let asked = prompt(task.length.unwrap_or_default(), &language);
    let task = Task {
        name: "caption",
        prompts: Prompt::for_each_image(&common, &asked, "language"),
        needs_probabilities: false,
    };
    let job = Job::start(&state, task, common).await?;
    answer(job, text(|caption| Caption { caption })).await
}
