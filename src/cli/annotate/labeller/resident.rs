//! Runs the model in this process and turns its answers into records.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::StreamExt;
use paligemma_server::engine::{
    Answerer, EngineHandle, EngineOptions, Event, FinishReason, MaxTokens, Neighbours, Request,
    Sampling, State,
};
use paligemma_server::models::{MASK_SIDE, MaskDecoder};
use paligemma_server::pixels::{Pixels, Preprocessor, mask::Mask};
use paligemma_server::runtime::Runtime;
use paligemma_server::settings::{Settings, TaskName};
use paligemma_server::tasks::bounding_box::{DetectedObject, edges};
use paligemma_server::tasks::detection::{Detection, bins};
use paligemma_server::tasks::detection_parser::{DetectionParser, Piece, TokenProbability};

use super::super::super::adapter;
use super::super::super::task_flags::has_objects;
use super::super::record::{Record, RecordedDetection};
use super::failed;

/// A loaded model.
pub struct Resident {
    engine: EngineHandle,
    preprocessor: Preprocessor,
    /// Present for `segment`.
    decoder: Option<Arc<MaskDecoder>>,
    task: TaskName,
    /// The model's tokens of bins, if it has them all.
    bins: Option<Neighbours>,
    adapter: Option<Answerer>,
    max_tokens: usize,
    /// How many pictures to label at once: twice the number of slots, so that images are decoded while
    /// others are in the model.
    pub ahead: usize,
}

impl Resident {
    /// Loads the model.
    ///
    /// # Errors
    /// When it can't be loaded, or `segment` has no mask decoder.
    pub async fn start(settings: &Settings, task: TaskName) -> anyhow::Result<Self> {
        let runtime = Runtime::load(settings).await?;
        let decoder = match task {
            TaskName::Segment => Some(runtime.mask_decoder.clone().context(
                "--task segment needs a mask decoder: pass PaliGemma's vae-oid.npz with --mask-decoder FILE",
            )?),
            _ => None,
        };
        let ahead = runtime.info.slots * 2;
        let options = EngineOptions {
            queue: ahead,
            image_cache_bytes: 0,
            // Nobody reads along, and fewer, longer steps get more done.
            max_token_gap: Duration::MAX,
            ..runtime.engine_options()
        };
        let preprocessor = runtime.preprocessor.clone();
        let bins = bins(&runtime.tokenizer);
        let adapter = adapter::answerer(&runtime.adapters.list);
        let engine = runtime.start_engine(options);
        let mut states = engine.watch_state();
        if let State::Failed(reason) = &*states.wait_for(|state| *state != State::Loading).await? {
            bail!("{reason}");
        }
        Ok(Self {
            ahead,
            engine,
            preprocessor,
            decoder,
            task,
            bins,
            adapter,
            max_tokens: settings.max_tokens_default,
        })
    }

    /// Labels one picture. The record holds an error if the file is not a picture.
    ///
    /// # Errors
    /// When the model or the engine fails.
    pub async fn label(&self, bytes: Bytes, record: Record) -> anyhow::Result<Record> {
        let pixels = match self.preprocessor.prepare(bytes).await {
            Ok(pixels) => pixels,
            Err(error) => return Ok(failed(record, error.to_string())),
        };
        let record = Record {
            width: pixels.width,
            height: pixels.height,
            ..record
        };
        self.ask(pixels, record).await
    }

    async fn ask(&self, pixels: Pixels, mut record: Record) -> anyhow::Result<Record> {
        let size = (pixels.width, pixels.height);
        let mut parser =
            has_objects(self.task).then(|| DetectionParser::new(self.decoder.is_some()));
        let mut events = self.engine.submit(Request {
            image: Arc::new(pixels),
            adapter: self.adapter,
            prompt: record.asked.prompt.clone(),
            max_tokens: MaxTokens::AtMost(self.max_tokens),
            sampling: Sampling::greedy(),
            stop: Vec::new(),
            logprobs: parser.as_ref().map(|_| 0),
            neighbours: parser.as_ref().and(self.bins.clone()),
            deadline: None,
        })?;
        let (mut answer, mut pieces) = (String::new(), Vec::new());
        while let Some(event) = events.next().await {
            match event {
                Event::Delta { text, tokens } => {
                    if let Some(parser) = &mut parser {
                        let tokens: Vec<_> = tokens.iter().map(TokenProbability::from).collect();
                        pieces.extend(parser.push(&text, &tokens));
                    }
                    answer.push_str(&text);
                }
                Event::Finished(summary) => {
                    let reason = match summary.finish_reason {
                        FinishReason::Stop => "stop",
                        FinishReason::Length => "length",
                    };
                    record.finish_reason = Some(reason.to_owned());
                    record.text = Some(answer);
                    if let Some(mut parser) = parser {
                        pieces.extend(parser.finish());
                        self.add_detections(&mut record, pieces, size).await?;
                    }
                    return Ok(record);
                }
                Event::Failed(failure) => return Err(failure).context(record.file),
            }
        }
        bail!("the engine stopped without an answer")
    }

    async fn add_detections(
        &self,
        record: &mut Record,
        pieces: Vec<Piece>,
        size: (u32, u32),
    ) -> anyhow::Result<()> {
        let min_score = record.asked.min_score;
        let objects = record.objects.insert(Vec::new());
        for piece in pieces {
            match piece {
                Ok(detection) if detection.score < min_score => {}
                Ok(detection) => objects.push(self.recorded(detection, size).await?),
                Err(dropped) => record.dropped.push(dropped),
            }
        }
        Ok(())
    }

    async fn recorded(
        &self,
        detection: Detection,
        size: (u32, u32),
    ) -> anyhow::Result<RecordedDetection> {
        let object = DetectedObject::new(&detection, size);
        let (Some(decoder), Some(codes)) = (self.decoder.clone(), detection.codes) else {
            return Ok(RecordedDetection {
                object,
                mask: None,
                area: None,
            });
        };
        let work = move || {
            let values = decoder.decode(&codes)?;
            let mask = Mask::new(values, MASK_SIDE as u32, edges(&detection), size);
            anyhow::Ok((mask.rle(), mask.area()))
        };
        let (mask, area) = self.preprocessor.bounded(work).await??;
        Ok(RecordedDetection {
            object,
            mask: Some(mask),
            area: Some(area),
        })
    }
}
