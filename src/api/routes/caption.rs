//! `POST /v1/caption`: what is in one image, or in each of several.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::text_task::{self, TextTask};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::extract::body::Submission;
use crate::api::extract::language::language;
use crate::api::extract::one_or_many::one_or_many;
use crate::api::extract::region::{Region, RegionSchema};
use crate::api::extract::task_fields::{SEVERAL_IMAGES, TaskFields};
use crate::api::job::{Prompt, Wording};
use crate::api::openapi::{Events, ImagesForm, ImagesJson, Problems};
use crate::api::respond::shapes::TaskResponse;
use crate::api::state::AppState;
use crate::tasks::DEFAULT_LANGUAGE;
use crate::tasks::caption::{Length, prompt};

/// Fields of a caption request.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CaptionFields {
    /// Caption this part of the only image, instead of the whole; in English and in the normal
    /// length, which is how the model knows it.
    #[serde(default, rename = "box")]
    #[schema(value_type = Option<RegionSchema>)]
    region: Option<Region>,
    /// Several parts of the same image, instead of `box`. In a form, repeat the field.
    #[serde(default, rename = "boxes")]
    #[schema(value_type = Option<Vec<RegionSchema>>, min_items = 1, max_items = 64)]
    regions: Option<Vec<Region>>,
    /// The language of the caption, as far as the checkpoint knows it.
    #[schema(
        default = "en",
        pattern = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$",
        example = "en"
    )]
    language: Option<String>,
    /// How much it says: `normal` if nothing is sent.
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

impl TextTask for CaptionFields {
    const NAME: &'static str = "caption";
    type Output = Caption;

    fn prompts(self, images: usize) -> Result<Vec<Prompt>, ApiError> {
        let regions = one_or_many("box", self.region, self.regions)?;
        if regions.is_empty() {
            let language = language(self.language)?;
            let asked = prompt(self.length.unwrap_or_default(), &language);
            return Ok(Prompt::for_each_image(images, &asked, "language"));
        }
        let other_language = self.language.is_some_and(|code| code != DEFAULT_LANGUAGE);
        let other_length = self.length.unwrap_or_default() != Length::default();
        for (param, refused, detail) in [
            (
                "language",
                other_language,
                "the model captions parts of an image in `en` only",
            ),
            (
                "length",
                other_length,
                "the model captions parts of an image in the `normal` length only",
            ),
            (
                "image",
                images > 1,
                "it is unclear which of several images the box is in; send one image",
            ),
        ] {
            if refused {
                let detail = format!("`{param}`: {detail}");
                return Err(ApiError::new(ErrorCode::OutOfRange, detail).param(param));
            }
        }
        let prompt = |(param, Region(region))| Prompt {
            image: 0,
            wording: Wording::Region(region),
            param,
        };
        Ok(regions.into_iter().map(prompt).collect())
    }

    fn output(caption: String) -> Caption {
        Caption { caption }
    }
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
            (TaskResponse<Caption> = "application/json"),
            (Events<Caption> = "text/event-stream"),
        )),
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn caption(
    State(state): State<AppState>,
    submission: Submission<CaptionFields>,
) -> Result<Response, ApiError> {
    text_task::run(state, submission).await
}
