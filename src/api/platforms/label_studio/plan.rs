//! From a label config and tasks to the regions of each task.

use std::iter;
use std::sync::Arc;

use axum::body::Bytes;
use futures::{StreamExt, stream};
use tokio::time::timeout_at;

use super::controls::{Ask, Control};
use super::label_config::{controls, no_controls};
use super::regions::{Answer, LabelledRegion};
use super::request::TaskBody;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::extract::body::{Arrival, Common};
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

/// What is asked about each task.
pub(super) struct Plan {
    controls: Vec<Arc<Control>>,
    /// Of all controls, each once.
    fields: Vec<String>,
}

/// What is in a task's data, in the order of the fields.
pub(super) type Texts = Vec<Option<Bytes>>;

/// The images of a task, in the order of the fields.
type Images = Vec<(ImageKey, Arc<Pixels>)>;

/// The regions of a task, or why it has none.
pub(super) type Prediction = Result<Vec<LabelledRegion>, ApiError>;

impl Plan {
    pub(super) fn read(xml: &str, state: &AppState) -> Result<Self, ApiError> {
        let controls = controls(xml)?;
        if controls.is_empty() {
            return Err(no_controls());
        }
        check_decoder(&controls, state)?;
        let mut fields: Vec<String> = Vec::new();
        for control in &controls {
            if !fields.contains(&control.field) {
                fields.push(control.field.clone());
            }
        }
        let (images, most) = (fields.len(), state.settings.max_images);
        if images > most {
            let detail = format!(
                "a task has {images} images; at most {most} are taken (the setting `max_images`)"
            );
            return Err(ApiError::new(ErrorCode::OutOfRange, detail));
        }
        Ok(Self {
            controls: controls.into_iter().map(Arc::new).collect(),
            fields,
        })
    }

    /// What the controls need of a task; `body` is what it was read from.
    pub(super) fn texts(&self, task: &TaskBody<'_>, body: &Bytes) -> Texts {
        let fields = self.fields.iter();
        fields.map(|field| task.text(field, body)).collect()
    }

    /// How many tasks are worked on together: they have no more images than a request may have, and an empty
    /// queue takes all their prompts.
    pub(super) fn most_at_once(&self, state: &AppState) -> usize {
        let by_images = state.settings.max_images / self.fields.len();
        let by_prompts = state.settings.queue / self.controls.len();
        by_images.min(by_prompts).max(1)
    }

    /// Labels tasks together; `first` is the place of their first one in the request.
    pub(super) async fn predict(
        &self,
        tasks: Vec<Texts>,
        first: usize,
        state: &AppState,
        arrival: Arrival,
    ) -> Vec<Prediction> {
        let count = tasks.len();
        let deadline = arrival.at + state.settings.request_timeout;
        let prepared = self.prepare(tasks, first, state, &arrival.owner);
        let predicted = match timeout_at(deadline.into(), prepared).await {
            Ok(prepared) => self.ask(prepared, state, arrival).await,
            Err(_) => vec![Err(failure(Failure::DeadlineExceeded)); count],
        };
        for error in predicted.iter().filter_map(|task| task.as_ref().err()) {
            tracing::warn!(param = error.param, "a task gets no prediction: {error}");
        }
        predicted
    }

    /// The images of each task, or why it has none.
    async fn prepare(
        &self,
        tasks: Vec<Texts>,
        first: usize,
        state: &AppState,
        owner: &Owner,
    ) -> Vec<Result<Images, ApiError>> {
        let prepared = iter::zip(first.., tasks).map(async |(index, texts)| {
            let mut images = Images::new();
            for (text, field) in iter::zip(texts, &self.fields) {
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

    /// Asks the model about the tasks that have their images.
    async fn ask(
        &self,
        prepared: Vec<Result<Images, ApiError>>,
        state: &AppState,
        arrival: Arrival,
    ) -> Vec<Prediction> {
        let (mut images, mut prompts, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for task in prepared {
            failures.push(task.as_ref().err().cloned());
            if let Ok(of_task) = task {
                prompts.extend(self.prompts(images.len()));
                let image = |(key, pixels)| ImageSource::prepared("tasks", key, pixels);
                images.extend(of_task.into_iter().map(image));
            }
        }
        if images.is_empty() {
            return failures.into_iter().flatten().map(Err).collect();
        }
        let mut regions = self.regions(prompts, images, state, arrival).await;
        let prediction = |failure| match (failure, &mut regions) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(error.clone()),
            (None, Ok(regions)) => Ok(regions.drain(..self.controls.len()).flatten().collect()),
        };
        failures.into_iter().map(prediction).collect()
    }

    /// A prompt for each control, about the images of a task that begin at `first`.
    fn prompts(&self, first: usize) -> impl Iterator<Item = Prompt> {
        self.controls.iter().map(move |control| {
            let image = self.fields.iter().position(|field| *field == control.field);
            Prompt {
                image: first + image.unwrap_or_default(),
                wording: Wording::Text(control.prompt()),
                param: "label_config".to_owned(),
            }
        })
    }

    /// What the model says to each prompt, where each task has one prompt for each control.
    async fn regions(
        &self,
        prompts: Vec<Prompt>,
        images: Vec<ImageSource>,
        state: &AppState,
        arrival: Arrival,
    ) -> Result<Vec<Vec<LabelledRegion>>, ApiError> {
        let controls = &self.controls;
        let of_objects =
            |control: &Arc<Control>| matches!(control.ask, Ask::Boxes(_) | Ask::Masks(_));
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
pub(super) fn check_decoder(controls: &[Control], state: &AppState) -> Result<(), ApiError> {
    let masks = |control: &Control| matches!(control.ask, Ask::Masks(_));
    match controls.iter().any(masks) && state.mask_decoder.is_none() {
        true => Err(ApiError::new(ErrorCode::NoMaskDecoder, NO_DECODER)),
        false => Ok(()),
    }
}
