//! `POST /v1/detect`: where objects are in one image, or in each of several.

use std::future::{Future, ready};

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::AppState;
use super::super::answer::answer;
use super::super::body::{SEVERAL_IMAGES, Submission, TaskFields};
use super::super::error::ApiError;
use super::super::job::{Job, Prompt, Task};
use super::super::objects::{ObjectName, names};
use super::super::openapi::{ImagesForm, ImagesJson, ObjectEvents, Problems};
use super::super::reader::AnswerReader;
use super::super::response::{Answer, TokenLogprob};
use crate::tasks::located::{Dropped, Parser, Piece, prompt};
use crate::tasks::objects::FoundObject;

/// Fields of a detection request.
#[derive(Debug, Deserialize, ToSchema)]
pub struct DetectFields {
    /// What to look for. In a form, repeat the field.
    #[schema(value_type = Vec<ObjectName>, min_items = 1, max_items = 64, example = json!(["red circle", "blue square"]))]
    objects: Vec<String>,
}

impl TaskFields for DetectFields {
    const IMAGE_FIELDS: &'static [&'static str] = SEVERAL_IMAGES;
}

/// What was found in one image.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Detection {
    /// In the order in which the model names them; empty when it sees none.
    pub objects: Vec<FoundObject>,
    /// Pieces of the answer that are no object, such as a box without its fourth edge.
    pub dropped: Vec<Dropped>,
}

/// Reads boxes and labels.
struct Boxes {
    parser: Parser,
    /// Of the image in pixels.
    size: (u32, u32),
    found: Detection,
}

impl Boxes {
    fn take(&mut self, pieces: Vec<Piece>) -> Vec<FoundObject> {
        let mut objects = Vec::new();
        for piece in pieces {
            match piece {
                Ok(object) => objects.push(FoundObject::new(&object, self.size)),
                Err(dropped) => self.found.dropped.push(dropped),
            }
        }
        self.found.objects.extend_from_slice(&objects);
        objects
    }
}

impl AnswerReader for Boxes {
    type Object = FoundObject;
    type Fields = Detection;

    fn push(
        &mut self,
        text: &str,
        tokens: &[TokenLogprob],
    ) -> impl Future<Output = Vec<FoundObject>> + Send {
        let logprobs: Vec<f32> = tokens.iter().map(|token| token.logprob).collect();
        let pieces = self.parser.push(text, &logprobs);
        ready(self.take(pieces))
    }

    fn finish(mut self) -> impl Future<Output = (Vec<FoundObject>, Detection)> + Send {
        let pieces = self.parser.finish();
        let objects = self.take(pieces);
        ready((objects, self.found))
    }
}

/// Find objects
///
/// Boxes of the objects asked for, in each image that was sent. Several objects are asked for in
/// one prompt.
#[utoipa::path(
    post,
    path = "/v1/detect",
    tag = "tasks",
    request_body(content(
        (ImagesJson<DetectFields> = "application/json"),
        (ImagesForm<DetectFields> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "The objects.", content(
            (Answer<Detection> = "application/json"),
            (ObjectEvents<FoundObject, Detection> = "text/event-stream"),
        )),
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn detect(
    State(state): State<AppState>,
    Submission { task, common }: Submission<DetectFields>,
) -> Result<Response, ApiError> {
    let asked = prompt("detect", &names(task.objects)?);
    let task = Task {
        name: "detect",
        prompts: Prompt::for_each_image(&common, &asked, "objects"),
        needs_probabilities: true,
    };
    let job = Job::start(&state, task, common).await?;
    let sizes = job.sizes.clone();
    let boxes = move |index: usize| Boxes {
        parser: Parser::new(false),
        size: sizes[index],
        found: Detection::default(),
    };
    answer(job, boxes).await
}
