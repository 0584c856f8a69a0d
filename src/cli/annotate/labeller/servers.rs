//! Asks servers about pictures and turns their answers into records.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use paligemma_server::api::ErrorCode;
use paligemma_server::pixels;
use paligemma_server::pixels::mask::Rle;
use paligemma_server::tasks::bounding_box::{BoundingBox, DetectedObject};
use paligemma_server::tasks::detection::{Detection, Dropped};
use reqwest::Body;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;

use super::super::record::{Record, RecordedDetection};
use super::super::replicas::{Replicas, Reply, events};
use super::failed;

/// What is wrong with a picture itself: no server would answer otherwise.
const OF_THE_PICTURE: [ErrorCode; 6] = [
    ErrorCode::BodyTooLarge,
    ErrorCode::ImageTooLarge,
    ErrorCode::ImageEmpty,
    ErrorCode::ImageCorrupt,
    ErrorCode::NotAnImage,
    ErrorCode::UnsupportedImage,
];

/// Servers, and what they are asked about each picture.
pub struct Servers {
    replicas: Replicas,
    question: Question,
    max_tokens: usize,
}

/// What is asked, as the API takes it.
pub enum Question {
    /// Any prompt whose answer is a text.
    Text,
    /// Objects with these names, with masks or without.
    Objects { names: Vec<String>, masks: bool },
}

/// The events of an answer.
#[derive(Deserialize)]
struct Delta {
    text: String,
}

#[derive(Deserialize)]
struct Found {
    objects: Vec<FoundObject>,
    dropped: Vec<Dropped>,
    finish_reason: String,
}

#[derive(Deserialize)]
struct FoundObject {
    #[serde(flatten)]
    object: DetectedObject,
    mask: Option<Rle>,
}

#[derive(Deserialize)]
struct Texts {
    results: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    finish_reason: String,
}

impl Servers {
    pub fn new(replicas: Replicas, question: Question, max_tokens: usize) -> Self {
        Self {
            replicas,
            question,
            max_tokens,
        }
    }

    /// As many pictures as all servers get at a time.
    pub fn ahead(&self) -> usize {
        self.replicas.in_flight()
    }

    /// Labels one picture. `None` if it gets no answer.
    ///
    /// # Errors
    /// When no server is left, or they refuse what is asked.
    pub async fn label(&self, bytes: Bytes, record: Record) -> anyhow::Result<Option<Record>> {
        let path = match self.question {
            Question::Text => "/v1/generate",
            Question::Objects { masks: false, .. } => "/v1/detect",
            Question::Objects { masks: true, .. } => "/v1/segment",
        };
        let form = || self.form(&bytes, &record);
        let sent = self.replicas.send(path, |post| post.multipart(form()));
        let reply = match sent.await? {
            Ok(reply) => reply,
            Err(reason) => {
                tracing::warn!(file = record.file, "got no answer: {reason}");
                return Ok(None);
            }
        };
        if OF_THE_PICTURE.iter().any(|code| reply.is(*code)) {
            return Ok(Some(failed(record, reply.reason())));
        }
        if !reply.status.is_success() {
            bail!("the server refuses this: {}", reply.reason());
        }
        let size = move || pixels::size(&bytes);
        let size = tokio::task::spawn_blocking(size).await??;
        let answered = match self.question {
            Question::Text => text(&reply, record),
            Question::Objects { .. } => objects(&reply, size, record),
        };
        let (width, height) = size;
        let answered = answered.context("the server's answer is not as expected")?;
        Ok(Some(Record {
            width,
            height,
            ..answered
        }))
    }

    fn form(&self, bytes: &Bytes, record: &Record) -> Form {
        let image = Part::stream_with_length(Body::from(bytes.clone()), bytes.len() as u64);
        let form = Form::new()
            .part("image", image.file_name("image"))
            .text("max_tokens", self.max_tokens.to_string());
        let form = match self.replicas.adapter() {
            Some(adapter) => form.text("model", adapter.to_owned()),
            None => form,
        };
        let (names, masks) = match &self.question {
            Question::Text => return form.text("prompt", record.asked.prompt.clone()),
            Question::Objects { names, masks } => (names, masks),
        };
        // Only a stream has the text beside the objects.
        let form = form
            .text("stream", "true")
            .text("min_score", record.asked.min_score.to_string());
        let form = names
            .iter()
            .fold(form, |form, name| form.text("objects", name.clone()));
        match masks {
            true => form.text("mask_format", "rle"),
            false => form,
        }
    }
}

fn text(reply: &Reply, record: Record) -> anyhow::Result<Record> {
    let Texts { results } = serde_json::from_slice(&reply.body)?;
    let result = results.into_iter().next().context("it has no result")?;
    Ok(Record {
        text: Some(result.text),
        finish_reason: Some(result.finish_reason),
        ..record
    })
}

fn objects(reply: &Reply, size: (u32, u32), record: Record) -> anyhow::Result<Record> {
    let (mut text, mut found) = (String::new(), None);
    for (name, data) in events(str::from_utf8(&reply.body)?) {
        match name {
            "delta" => text += &serde_json::from_str::<Delta>(data)?.text,
            "result" => found = Some(serde_json::from_str(data)?),
            _ => {}
        }
    }
    let found: Found = found.context("it has no result")?;
    let objects = found.objects.into_iter().map(|object| exact(object, size));
    Ok(Record {
        text: Some(text),
        objects: Some(objects.collect::<anyhow::Result<_>>()?),
        dropped: found.dropped,
        finish_reason: Some(found.finish_reason),
        ..record
    })
}

/// The object with its box to the last bit, which numbers lose on their way through JSON.
fn exact(found: FoundObject, size: (u32, u32)) -> anyhow::Result<RecordedDetection> {
    let FoundObject { object, mask } = found;
    let BoundingBox { x0, y0, x1, y1 } = object.box_normalized;
    let bins = object.box_normalized.bins((1, 1));
    let bins = bins.with_context(|| format!("the box {x0},{y0},{x1},{y1} is no box"))?;
    let detection = Detection {
        label: object.label,
        bins,
        codes: None,
        score: object.score,
        logprob: object.logprob,
    };
    let area = match &mask {
        Some(mask) => Some(mask.area().context("a mask can't be read")?),
        None => None,
    };
    Ok(RecordedDetection {
        object: DetectedObject::new(&detection, size),
        mask,
        area,
    })
}
