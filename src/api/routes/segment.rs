//! `POST /v1/segment`: where objects are in one image, or in each of several, to the pixel.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::error::{ApiError, ErrorCode};
use crate::api::extract::body::Submission;
use crate::api::extract::min_score::min_score;
use crate::api::extract::object_names::{ObjectName, names};
use crate::api::extract::task_fields::{SEVERAL_IMAGES, TaskFields};
use crate::api::job::{Job, Prompt, Task};
use crate::api::openapi::{ImagesForm, ImagesJson, NoDecoderProblem, ObjectEvents, Problems};
use crate::api::respond::answer;
use crate::api::respond::output_parser::OutputParser;
use crate::api::respond::shapes::{TaskResponse, TokenLogprob};
use crate::api::state::AppState;
use crate::models::{MASK_SIDE, MaskDecoder};
use crate::pixels::Preprocessor;
use crate::pixels::mask::{Mask, Rle};
use crate::tasks::bounding_box::{DetectedObject, edges};
use crate::tasks::detection::{Detection, Dropped, prompt};
use crate::tasks::detection_parser::{DetectionParser, Piece, TokenProbability};

/// Fields of a segmentation request.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SegmentFields {
    /// What to look for. In a form, repeat the field.
    #[schema(value_type = Vec<ObjectName>, min_items = 1, max_items = 64, example = json!(["red circle", "blue square"]))]
    objects: Vec<String>,
    /// Leave out objects with a lower score.
    #[schema(minimum = 0, maximum = 1, default = 0.0)]
    min_score: Option<f32>,
    /// How masks are sent.
    mask_format: Option<MaskFormat>,
}

impl TaskFields for SegmentFields {
    const IMAGE_FIELDS: &'static [&'static str] = SEVERAL_IMAGES;
}

/// How a mask is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MaskFormat {
    /// A grey PNG as large as the image, in base64: 255 on the object, 0 elsewhere.
    #[default]
    Image,
    /// The same, as large as the box in whole pixels.
    Box,
    /// COCO's compressed run-length encoding.
    Rle,
}

/// The pixels of an object.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum MaskData {
    /// A PNG in base64.
    Png(String),
    Rle(Rle),
}

/// An object that was found, with its mask.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SegmentedObject {
    #[serde(flatten)]
    pub object: DetectedObject,
    pub mask: MaskData,
}

/// What was found in one image.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Segmentation {
    /// In the order in which the model names them; empty when it sees none, or none with `min_score`.
    pub objects: Vec<SegmentedObject>,
    /// Pieces of the answer that are no object, such as a mask of too few codes.
    pub dropped: Vec<Dropped>,
}

/// Reads boxes, labels and masks.
struct Masks {
    parser: DetectionParser,
    /// Of the image in pixels.
    size: (u32, u32),
    min_score: f32,
    format: MaskFormat,
    decoder: Arc<MaskDecoder>,
    preprocessor: Preprocessor,
    found: Segmentation,
}

impl Masks {
    async fn take(&mut self, pieces: Vec<Piece>) -> Vec<SegmentedObject> {
        let mut objects = Vec::new();
        for piece in pieces {
            match piece {
                Ok(detection) if detection.score < self.min_score => {}
                Ok(detection) => objects.extend(self.segmented(detection).await),
                Err(dropped) => self.found.dropped.push(dropped),
            }
        }
        self.found.objects.extend_from_slice(&objects);
        objects
    }

    async fn segmented(&self, detection: Detection) -> Option<SegmentedObject> {
        let (size, format, decoder) = (self.size, self.format, self.decoder.clone());
        let object = DetectedObject::new(&detection, size);
        // A mask of a large picture takes as much time and memory as decoding one.
        let work = move || mask(&decoder, &detection, size, format);
        match self.preprocessor.bounded(work).await {
            Ok(Ok(mask)) => Some(SegmentedObject { object, mask }),
            Ok(Err(error)) => {
                tracing::error!(%error, "a mask could not be decoded");
                None
            }
            Err(error) => {
                tracing::error!(%error, "a mask was not decoded to its end");
                None
            }
        }
    }
}

fn mask(
    decoder: &MaskDecoder,
    detection: &Detection,
    size: (u32, u32),
    format: MaskFormat,
) -> candle_core::Result<MaskData> {
    let mask = decode(decoder, detection, size)?;
    let png = |bytes| MaskData::Png(BASE64_STANDARD.encode::<Vec<u8>>(bytes));
    Ok(match format {
        MaskFormat::Image => png(mask.image_png()),
        MaskFormat::Box => png(mask.box_png()),
        MaskFormat::Rle => MaskData::Rle(mask.rle()),
    })
}

/// The mask of an object in an image of that width and height in pixels.
///
/// # Errors
/// Those of the decoder.
pub fn decode(
    decoder: &MaskDecoder,
    detection: &Detection,
    size: (u32, u32),
) -> candle_core::Result<Mask> {
    let values = decoder.decode(detection.codes.as_ref().map_or(&[], |codes| codes))?;
    Ok(Mask::new(values, MASK_SIDE as u32, edges(detection), size))
}

impl OutputParser for Masks {
    type Object = SegmentedObject;
    type Fields = Segmentation;

    async fn push(&mut self, text: &str, tokens: &[TokenLogprob]) -> Vec<SegmentedObject> {
        let tokens: Vec<_> = tokens.iter().map(TokenProbability::from).collect();
        let pieces = self.parser.push(text, &tokens);
        self.take(pieces).await
    }

    async fn finish(mut self) -> (Vec<SegmentedObject>, Segmentation) {
        let pieces = self.parser.finish();
        let objects = self.take(pieces).await;
        (objects, self.found)
    }
}

/// Find objects with their masks
///
/// Boxes and masks of the objects asked for, in each image that was sent. Several objects are asked
/// for in one prompt. Masks need a decoder, which checkpoints don't hold: without one, this route
/// answers 501.
#[utoipa::path(
    post,
    path = "/v1/segment",
    tag = "tasks",
    request_body(content(
        (ImagesJson<SegmentFields> = "application/json"),
        (ImagesForm<SegmentFields> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "The objects.", content(
            (TaskResponse<Segmentation> = "application/json"),
            (ObjectEvents<SegmentedObject, Segmentation> = "text/event-stream"),
        )),
        Problems,
        NoDecoderProblem,
    ),
    security((), ("key" = [])),
)]
pub async fn segment(
    State(state): State<AppState>,
    Submission { task, common }: Submission<SegmentFields>,
) -> Result<Response, ApiError> {
    let Some(decoder) = state.mask_decoder.clone() else {
        return Err(ApiError::new(ErrorCode::NoMaskDecoder, NO_DECODER));
    };
    let asked = prompt("segment", &names(task.objects)?);
    let min_score = min_score(task.min_score)?;
    let format = task.mask_format.unwrap_or_default();
    let task = Task {
        name: "segment",
        prompts: Prompt::for_each_image(common.images.len(), &asked, "objects"),
        needs_probabilities: true,
    };
    let job = Job::start(&state, task, common).await?;
    let sizes = job.sizes.clone();
    let masks = move |index: usize| Masks {
        parser: DetectionParser::new(true),
        size: sizes[index],
        min_score,
        format,
        decoder: decoder.clone(),
        preprocessor: state.preprocessor.clone(),
        found: Segmentation::default(),
    };
    answer(job, masks).await
}

pub const NO_DECODER: &str = "this server has no decoder for the codes of masks; get PaliGemma's `vae-oid.npz`, and start \
     the server with `--mask-decoder FILE`, or put it into the checkpoint's folder; `/v1/detect` gives boxes without it";
