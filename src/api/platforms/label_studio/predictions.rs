//! From tasks and a label config to predictions.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Request;
use futures::{StreamExt, stream};
use tokio::time::timeout_at;

use super::label_config::{Ask, Control, controls, no_controls};
use super::regions::{Answer, LabelledRegion};
use super::request::{PredictBody, TaskBody};
use super::{LabelStudioPredictions, TaskError, TaskPrediction};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::extract::body::{Arrival, Common, json_bytes, receive};
use crate::api::extract::image_source::ImageSource;
use crate::api::extract::options::Options;
use crate::api::image_fetcher::LabelStudioFiles;
use crate::api::job::{Job, Prompt, Task, Wording, failure};
use crate::api::kept_images::{ImageKey, Owner};
use crate::api::respond::whole::collect_fields;
use crate::api::routes::segment::NO_DECODER;
use crate::api::state::AppState;
use crate::engine::Failure;
use crate::pixels::Pixels;
use crate::telemetry::metrics::{Preparing, Stage};

/// A request for predictions, as it was read.
pub(super) struct PredictRequest {
    controls: Vec<Arc<Control>>,
    /// Of all controls, each once.
    fields: Vec<String>,
    /// Of each task: what is in these fields.
    tasks: Vec<Vec<Option<Bytes>>>,
    arrival: Arrival,
}

/// The images of a task, in the order of the fields.
type Images = Vec<(ImageKey, Arc<Pixels>)>;

impl PredictRequest {
    pub(super) async fn receive(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let reading = async |request| json_bytes(request, state).await;
        let (arrival, body) = receive(request, state, reading).await?;
        Self::read(arrival, &body, state)
    }

    fn read(arrival: Arrival, body: &Bytes, state: &AppState) -> Result<Self, ApiError> {
        let read = PredictBody::read(body)?;
        let Some(xml) = read.label_config.and_then(|text| text.0) else {
            let detail = "`label_config` is missing: the project's label config, in XML";
            return Err(ApiError::new(ErrorCode::MissingField, detail).param("label_config"));
        };
        let Some(tasks) = read.tasks else {
            let detail = "`tasks` is missing: a list of objects with `data`";
            return Err(ApiError::new(ErrorCode::MissingField, detail).param("tasks"));
        };
        let controls = match controls(&xml) {
            Ok(controls) if controls.is_empty() => Err(no_controls()),
            read => read,
        };
        let controls = controls.map_err(|error| error.param("label_config"))?;
        check_decoder(&controls, state, "label_config")?;
        let mut fields: Vec<String> = Vec::new();
        for control in &controls {
            if !fields.contains(&control.field) {
                fields.push(control.field.clone());
            }
        }
        let most = state.settings.max_images / fields.len();
        if !(1..=most).contains(&tasks.len()) {
            let count = tasks.len();
            let detail = format!(
                "`tasks` has {count}; allowed is 1 to {most} in one request (the setting `max_images`, and images in a task)"
            );
            return Err(ApiError::new(ErrorCode::OutOfRange, detail).param("tasks"));
        }
        let texts = |task: &TaskBody<'_>| {
            let texts = fields.iter().map(|field| task.text(field, body));
            texts.collect()
        };
        Ok(Self {
            tasks: tasks.iter().map(texts).collect(),
            controls: controls.into_iter().map(Arc::new).collect(),
            fields,
            arrival,
        })
    }

    pub(super) async fn predict(
        self,
        state: &AppState,
    ) -> Result<LabelStudioPredictions, ApiError> {
        let Self {
            controls,
            fields,
            tasks,
            arrival,
        } = self;
        let prepared = prepare(tasks, &fields, state, &arrival.owner);
        let deadline = arrival.at + state.settings.request_timeout;
        let prepared = timeout_at(deadline.into(), prepared)
            .await
            .map_err(|_| failure(Failure::DeadlineExceeded))?;
        if let Some(Err(error)) = prepared.first()
            && prepared.iter().all(Result::is_err)
        {
            return Err(error.clone());
        }
        let asked = controls.iter().map(|control| {
            let image = fields.iter().position(|field| *field == control.field);
            (image.unwrap_or_default(), Wording::Text(control.prompt()))
        });
        let asked: Vec<_> = asked.collect();
        let (mut images, mut prompts, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for task in prepared {
            match task {
                Ok(of_task) => {
                    prompts.extend(asked.iter().map(|(image, wording)| Prompt {
                        image: images.len() + image,
                        wording: wording.clone(),
                        param: "label_config".to_owned(),
                    }));
                    let image = |(key, pixels)| ImageSource::prepared("tasks", key, pixels);
                    images.extend(of_task.into_iter().map(image));
                    failures.push(None);
                }
                Err(error) => {
                    tracing::warn!(param = error.param, "a task gets no prediction: {error}");
                    failures.push(Some(error));
                }
            }
        }
        let of_controls = regions(state, &controls, prompts, images, arrival).await?;
        let mut of_controls = of_controls.into_iter();
        let model_version = state.model.name.clone();
        let results = failures.into_iter().map(|failure| match failure {
            Some(error) => TaskPrediction::failed(error),
            None => {
                let result = of_controls
                    .by_ref()
                    .take(controls.len())
                    .flatten()
                    .collect();
                TaskPrediction::made(&model_version, result)
            }
        });
        Ok(LabelStudioPredictions {
            results: results.collect(),
            model_version: model_version.clone(),
        })
    }
}

impl TaskPrediction {
    fn made(model_version: &str, result: Vec<LabelledRegion>) -> Self {
        let scores: Vec<f32> = result.iter().filter_map(|region| region.score).collect();
        let mean = scores.iter().sum::<f32>() / scores.len() as f32;
        Self::Made {
            model_version: model_version.to_owned(),
            score: (!scores.is_empty()).then_some(mean),
            result,
        }
    }

    fn failed(error: ApiError) -> Self {
        let ApiError {
            code,
            detail,
            param,
            ..
        } = error;
        let error = TaskError {
            code,
            detail,
            param,
        };
        Self::Failed { error }
    }
}

/// What the model says to each prompt, where each task has one prompt for each control.
async fn regions(
    state: &AppState,
    controls: &[Arc<Control>],
    prompts: Vec<Prompt>,
    images: Vec<ImageSource>,
    arrival: Arrival,
) -> Result<Vec<Vec<LabelledRegion>>, ApiError> {
    let of_objects = |control: &Arc<Control>| matches!(control.ask, Ask::Boxes(_) | Ask::Masks(_));
    let task = Task {
        name: "label",
        prompts,
        needs_probabilities: controls.iter().any(of_objects),
    };
    let common = Common {
        images,
        options: Options::default(),
        arrival,
    };
    let job = Job::start(state, task, common).await?;
    let sizes = job.sizes.clone();
    let answer = |index: usize| {
        let control = controls[index % controls.len()].clone();
        let decoder = state.mask_decoder.clone();
        Answer::new(control, sizes[index], decoder, state.preprocessor.clone())
    };
    collect_fields(job, answer).await
}

/// The images of each task, or why it has none.
async fn prepare(
    tasks: Vec<Vec<Option<Bytes>>>,
    fields: &[String],
    state: &AppState,
    owner: &Owner,
) -> Vec<Result<Images, ApiError>> {
    let prepared = tasks.into_iter().enumerate().map(async |(index, texts)| {
        let mut images = Images::new();
        for (text, field) in texts.into_iter().zip(fields) {
            let param = format!("tasks[{index}].data.{field}");
            let source = source(text, &param, state).await;
            let source = source.map_err(|error| error.param(param))?;
            images.push(source.prepare(state, owner).await?);
        }
        Ok(images)
    });
    // A few at a time, as those of other requests stand in the same line.
    let prepared = stream::iter(prepared).buffered(state.preprocessor.concurrency());
    prepared.collect().await
}

/// Where a task's image comes from; one that lies in Label Studio has been fetched.
async fn source(
    text: Option<Bytes>,
    param: &str,
    state: &AppState,
) -> Result<ImageSource, ApiError> {
    let Some(text) = text else {
        let detail = "the task's data has no text in the field that the label config names";
        return Err(ApiError::new(ErrorCode::MissingField, detail));
    };
    let place = str::from_utf8(&text).unwrap_or_default().trim();
    let bytes = match &state.label_studio {
        Some(files) if LabelStudioFiles::is_path(place) || files.has(place) => {
            let _stage = Preparing::new(Stage::Fetching);
            files.fetch(place, &state.fetcher).await?
        }
        None if LabelStudioFiles::is_path(place) => {
            let detail = "the image lies in Label Studio, and this server was not told where that is: its settings `label_studio_url` and `label_studio_api_key`";
            return Err(ApiError::new(ErrorCode::ImageUrlNotAllowed, detail));
        }
        _ => return Ok(ImageSource::text(param, text)),
    };
    Ok(ImageSource::file(param, bytes))
}

/// Refuses what needs a mask decoder where there is none.
pub(super) fn check_decoder(
    controls: &[Control],
    state: &AppState,
    param: &str,
) -> Result<(), ApiError> {
    let masks = |control: &Control| matches!(control.ask, Ask::Masks(_));
    match controls.iter().any(masks) && state.mask_decoder.is_none() {
        true => Err(ApiError::new(ErrorCode::NoMaskDecoder, NO_DECODER).param(param)),
        false => Ok(()),
    }
}
