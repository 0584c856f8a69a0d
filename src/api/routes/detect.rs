//! `POST /v1/detect`: where objects are in one image, or in each of several.

use std::future::{Future, ready};

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::extract::body::Submission;
use crate::api::extract::min_score::min_score;
use crate::api::extract::object_names::{ObjectName, names};
use crate::api::extract::task_fields::{SEVERAL_IMAGES, TaskFields};
use crate::api::job::{Job, Prompt, Task};
use crate::api::openapi::{ImagesForm, ImagesJson, ObjectEvents, Problems};
use crate::api::respond::answer;
use crate::api::respond::output_parser::OutputParser;
use crate::api::respond::shapes::{TaskResponse, TokenLogprob};
use crate::api::state::AppState;
use crate::tasks::bounding_box::DetectedObject;
use crate::tasks::detection::{Dropped, prompt};
use crate::tasks::detection_parser::{DetectionParser, Piece, TokenProbability};

/// Fields of a detection request.
#[derive(Debug, Deserialize, ToSchema)]
pub struct DetectFields {
    /// What to look for. In a form, repeat the field.
    #[schema(value_type = Vec<ObjectName>, min_items = 1, max_items = 64, example = json!(["red circle", "blue square"]))]
    objects: Vec<String>,
    /// Leave out objects with a lower score.
    #[schema(minimum = 0, maximum = 1, default = 0.0)]
    min_score: Option<f32>,
}

impl TaskFields for DetectFields {
    const IMAGE_FIELDS: &'static [&'static str] = SEVERAL_IMAGES;
}

/// What was found in one image.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Detection)]
pub struct Detections {
    /// In the order in which the model names them; empty when it sees none, or none with `min_score`.
    pub objects: Vec<DetectedObject>,
    /// Pieces of the answer that are no object, such as a box without its fourth edge.
    pub dropped: Vec<Dropped>,
}

/// Reads boxes and labels.
struct Boxes {
    parser: DetectionParser,
    /// Of the image in pixels.
    size: (u32, u32),
    min_score: f32,
    found: Detections,
}

impl Boxes {
    fn take(&mut self, pieces: Vec<Piece>) -> Vec<DetectedObject> {
        let mut objects = Vec::new();
        for piece in pieces {
            match piece {
                Ok(object) if object.score < self.min_score => {}
                Ok(object) => objects.push(DetectedObject::new(&object, self.size)),
                Err(dropped) => self.found.dropped.push(dropped),
            }
        }
        self.found.objects.extend_from_slice(&objects);
        objects
    }
}

impl OutputParser for Boxes {
    type Object = DetectedObject;
    type Fields = Detections;

    fn push(
        &mut self,
        text: &str,
        tokens: &[TokenLogprob],
    ) -> impl Future<Output = Vec<DetectedObject>> + Send {
        let tokens: Vec<_> = tokens.iter().map(TokenProbability::from).collect();
        let pieces = self.parser.push(text, &tokens);
        ready(self.take(pieces))
    }

    fn finish(mut self) -> impl Future<Output = (Vec<DetectedObject>, Detections)> + Send {
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
            (TaskResponse<Detections> = "application/json"),
            (ObjectEvents<DetectedObject, Detections> = "text/event-stream"),
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
    let min_score = min_score(task.min_score)?;
    let task = Task {
        name: "detect",
        prompts: Prompt::for_each_image(common.images.len(), &asked, "objects"),
        needs_probabilities: true,
    };
    let job = Job::start(&state, task, common).await?;
    let sizes = job.sizes.clone();
    let boxes = move |index: usize| Boxes {
        parser: DetectionParser::new(false),
        size: sizes[index],
        min_score,
        found: Detections::default(),
    };
    answer(job, boxes).await
}
