//! `POST /v1/caption`: what is in one image, or in each of several.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::AppState;
use super::super::answer::answer;
use super::super::body::{Common, SEVERAL_IMAGES, Submission, TaskFields};
use super::super::error::{ApiError, ErrorCode};
use super::super::job::{Job, Prompt, Task, Wording};
use super::super::one_or_several::one_or_several;
use super::super::openapi::{Events, ImagesForm, ImagesJson, Problems};
use super::super::reader::text;
use super::super::region::Region;
use super::super::response::Answer;
use super::language;
use crate::tasks::caption::{Length, prompt};

/// Fields of a caption request.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CaptionFields {
    /// Caption this part of the image, instead of the whole; `language` and `length` are not for
    /// parts.
    #[serde(default, rename = "box")]
    region: Option<Region>,
    /// Several parts of the same image. In a form, repeat the field.
    #[serde(default, rename = "boxes")]
    #[schema(min_items = 1, max_items = 64)]
    regions: Option<Vec<Region>>,
    /// The language of the caption, as far as the checkpoint knows it.
    #[schema(
        default = "en",
        pattern = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$",
        example = "en"
    )]
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

/// Describe images
///
/// One caption for each image, or for each part of the only image, in the order in which they were
/// sent.
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
            (Events<Caption> = "text/event-stream"),
        )),
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn caption(
    State(state): State<AppState>,
    Submission { task, common }: Submission<CaptionFields>,
) -> Result<Response, ApiError> {
    let task = Task {
        name: "caption",
        prompts: prompts(task, &common)?,
        needs_probabilities: false,
    };
    let job = Job::start(&state, task, common).await?;
    answer(job, text(|caption| Caption { caption })).await
}

fn prompts(task: CaptionFields, request: &Common) -> Result<Vec<Prompt>, ApiError> {
    let regions = one_or_several("box", task.region, task.regions)?;
    if regions.is_empty() {
        let language = language(task.language)?;
        let asked = prompt(task.length.unwrap_or_default(), &language);
        return Ok(Prompt::for_each_image(request, &asked, "language"));
    }
    let images = request.images.len();
    for (param, sent, reason) in [
        (
            "language",
            task.language.is_some(),
            "the model knows captions of parts in one language",
        ),
        (
            "length",
            task.length.is_some(),
            "the model knows captions of parts in one length",
        ),
        (
            "images",
            images > 1,
            "which of several is meant is unclear; send one",
        ),
    ] {
        if sent {
            let detail = format!("`{param}` can't be sent with a box: {reason}");
            return Err(ApiError::new(ErrorCode::InvalidField, detail).param(param));
        }
    }
    let prompt = |(param, region): (String, Region)| {
        let corners = region.corners(&param)?;
        Ok(Prompt {
            image: 0,
            wording: Wording::Region(corners),
            param,
        })
    };
    regions.into_iter().map(prompt).collect()
}
