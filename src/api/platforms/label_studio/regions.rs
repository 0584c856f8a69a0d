//! Results in Label Studio's form, made of what the model says.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::controls::{Ask, Control, Label, Objects, meant};
use crate::api::respond::output_parser::{NoObject, OutputParser};
use crate::api::respond::shapes::TokenLogprob;
use crate::api::routes::segment;
use crate::models::MaskDecoder;
use crate::pixels::Preprocessor;
use crate::tasks::bounding_box::DetectedObject;
use crate::tasks::detection::Detection;
use crate::tasks::detection_parser::{DetectionParser, TokenProbability};

/// One result of a prediction.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LabelledRegion {
    #[schema(example = "label-0")]
    id: String,
    /// The control's name.
    #[schema(example = "label")]
    from_name: String,
    /// The image's name.
    #[schema(example = "image")]
    to_name: String,
    #[serde(rename = "type")]
    #[schema(example = "rectanglelabels")]
    kind: &'static str,
    /// Of the image as a person sees it, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 640)]
    original_width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 480)]
    original_height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_rotation: Option<u32>,
    /// How sure the model is of a box or mask, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    value: RegionValue,
}

/// What a result says.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum RegionValue {
    /// In percent of the image.
    Rectangle {
        x: f64,
        y: f64,
        width: f64,
        height: f64,
        rotation: f64,
        rectanglelabels: [String; 1],
    },
    Brush {
        #[schema(example = "rle")]
        format: &'static str,
        /// Label Studio's own encoding.
        rle: Vec<u8>,
        brushlabels: [String; 1],
    },
    Text {
        text: [String; 1],
    },
    Choices {
        choices: [String; 1],
    },
}

/// Reads the answer to one control about one task.
pub struct Answer {
    control: Arc<Control>,
    /// Of the image in pixels.
    size: (u32, u32),
    /// None: this server does not segment.
    decoder: Option<Arc<MaskDecoder>>,
    preprocessor: Preprocessor,
    parser: Option<DetectionParser>,
    text: String,
    found: Vec<Detection>,
}

impl Answer {
    pub fn new(
        control: Arc<Control>,
        size: (u32, u32),
        decoder: Option<Arc<MaskDecoder>>,
        preprocessor: Preprocessor,
    ) -> Self {
        let parser = match control.ask {
            Ask::Boxes(_) => Some(DetectionParser::new(false)),
            Ask::Masks(_) => Some(DetectionParser::new(true)),
            Ask::Text { .. } | Ask::Choice { .. } => None,
        };
        Self {
            control,
            size,
            decoder,
            preprocessor,
            parser,
            text: String::new(),
            found: Vec::new(),
        }
    }

    fn region(&self, index: usize, kind: &'static str, value: RegionValue) -> LabelledRegion {
        let Control { name, to_name, .. } = &*self.control;
        LabelledRegion {
            id: format!("{name}-{index}"),
            from_name: name.clone(),
            to_name: to_name.clone(),
            kind,
            original_width: None,
            original_height: None,
            image_rotation: None,
            score: None,
            value,
        }
    }

    fn of_object(
        &self,
        index: usize,
        object: &Detection,
        kind: &'static str,
        value: RegionValue,
    ) -> LabelledRegion {
        LabelledRegion {
            original_width: Some(self.size.0),
            original_height: Some(self.size.1),
            image_rotation: Some(0),
            score: Some(object.score),
            ..self.region(index, kind, value)
        }
    }

    async fn regions(&self) -> Vec<LabelledRegion> {
        match &self.control.ask {
            Ask::Boxes(objects) => {
                let boxes = self.wanted(objects).enumerate();
                let region = |(index, (object, label)): (usize, (&Detection, &Label))| {
                    let value = rectangle(object, self.size, label);
                    self.of_object(index, object, "rectanglelabels", value)
                };
                boxes.map(region).collect()
            }
            Ask::Masks(objects) => {
                let mut regions = Vec::new();
                for (object, label) in self.wanted(objects) {
                    if let Some(rle) = self.mask(object).await {
                        let value = RegionValue::Brush {
                            format: "rle",
                            rle,
                            brushlabels: [label.value.clone()],
                        };
                        let index = regions.len();
                        regions.push(self.of_object(index, object, "brushlabels", value));
                    }
                }
                regions
            }
            Ask::Text { .. } => match self.text.trim() {
                "" => Vec::new(),
                text => {
                    let text = [text.to_owned()];
                    vec![self.region(0, "textarea", RegionValue::Text { text })]
                }
            },
            Ask::Choice { choices, .. } => {
                let choice = meant(choices, &self.text).into_iter();
                let region = |choice: &Label| {
                    let choices = [choice.value.clone()];
                    self.region(0, "choices", RegionValue::Choices { choices })
                };
                choice.map(region).collect()
            }
        }
    }

    /// The objects with a score that is high enough and a label that the config has.
    fn wanted<'a>(
        &'a self,
        objects: &'a Objects,
    ) -> impl Iterator<Item = (&'a Detection, &'a Label)> {
        let sure = self
            .found
            .iter()
            .filter(|object| object.score >= objects.min_score);
        sure.filter_map(|object| Some((object, meant(&objects.labels, &object.label)?)))
    }

    async fn mask(&self, object: &Detection) -> Option<Vec<u8>> {
        let (decoder, object, size) = (self.decoder.clone()?, object.clone(), self.size);
        // A mask of a large picture takes as much time and memory as decoding one.
        let work = move || segment::decode(&decoder, &object, size).map(|mask| mask.brush());
        match self.preprocessor.bounded(work).await {
            Ok(Ok(rle)) => rle,
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

fn rectangle(object: &Detection, size: (u32, u32), label: &Label) -> RegionValue {
    let part = DetectedObject::new(object, size).box_normalized;
    RegionValue::Rectangle {
        x: part.x0 * 100.0,
        y: part.y0 * 100.0,
        width: (part.x1 - part.x0) * 100.0,
        height: (part.y1 - part.y0) * 100.0,
        rotation: 0.0,
        rectanglelabels: [label.value.clone()],
    }
}

impl OutputParser for Answer {
    type Object = NoObject;
    type Fields = Vec<LabelledRegion>;

    fn push(
        &mut self,
        text: &str,
        tokens: &[TokenLogprob],
    ) -> impl Future<Output = Vec<NoObject>> + Send {
        match &mut self.parser {
            Some(parser) => {
                let tokens: Vec<_> = tokens.iter().map(TokenProbability::from).collect();
                self.found
                    .extend(parser.push(text, &tokens).into_iter().flatten());
            }
            None => self.text.push_str(text),
        }
        std::future::ready(Vec::new())
    }

    async fn finish(mut self) -> (Vec<NoObject>, Vec<LabelledRegion>) {
        if let Some(parser) = &mut self.parser {
            self.found.extend(parser.finish().into_iter().flatten());
        }
        (Vec::new(), self.regions().await)
    }
}
