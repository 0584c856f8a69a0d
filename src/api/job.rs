//! From a checked request to the generations that answer it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::{StreamExt, stream};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::error::{ApiError, ErrorCode};
use crate::api::extract::body::Common;
use crate::api::extract::image_source::ImageSource;
use crate::api::extract::options::out_of_context;
use crate::api::kept_images::{ImageKey, Owner};
use crate::api::readiness::{loading, shutting_down, unavailable};
use crate::api::request_id::RequestId;
use crate::api::state::AppState;
use crate::engine::{Failure, Generation, MaxTokens, Request, SubmitError};
use crate::pixels::Pixels;
use crate::tasks::bounding_box::BoundingBox;
use crate::tasks::caption::region_prompt;
use crate::telemetry::load_progress::LoadProgress;
use crate::telemetry::metrics;
use crate::tokenizer::Tokenizer;

/// One prompt about one of the request's images.
#[derive(Debug)]
pub struct Prompt {
    /// The index of its image among the request's.
    pub image: usize,
    pub wording: Wording,
    /// The field that it comes from.
    pub param: String,
}

/// What a prompt says.
#[derive(Debug, Clone)]
pub enum Wording {
    /// The text as PaliGemma sees it, without the final newline.
    Text(String),
    /// Asks for a caption of this part of the image, in pixels.
    Region(BoundingBox),
}

impl Prompt {
    /// The same prompt about each of that many images; `param` is the field that it comes from.
    pub fn for_each_image(images: usize, text: &str, param: &str) -> Vec<Self> {
        let prompt = |image| Self {
            image,
            wording: Wording::Text(text.to_owned()),
            param: param.to_owned(),
        };
        (0..images).map(prompt).collect()
    }

    /// Its text, for an image of that width and height in pixels.
    fn text(&self, (width, height): (u32, u32)) -> Result<String, ApiError> {
        match &self.wording {
            Wording::Text(text) => Ok(text.clone()),
            Wording::Region(region) => match region.bins((width, height)) {
                Some(bins) => Ok(region_prompt(bins)),
                None => {
                    let BoundingBox { x0, y0, x1, y1 } = region;
                    let value = format!("{x0},{y0},{x1},{y1}");
                    let allowed = format!(
                        "a part of the image, which is {width}x{height} pixels: 0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height}"
                    );
                    Err(ApiError::out_of_range(&self.param, value, &allowed))
                }
            },
        }
    }
}

/// What a request asks of the model.
#[derive(Debug)]
pub struct Task {
    /// Its name, sent as `object` in answers.
    pub name: &'static str,
    pub prompts: Vec<Prompt>,
    /// Whether the answers' tokens are needed with their probabilities, asked for or not.
    pub needs_probabilities: bool,
}

/// What identifies an answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Head {
    #[schema(example = "caption-5f0c6a52f1f94f8e9c1d3f6f0a9b7e21")]
    pub id: String,
    /// The task's name, as in the path of its route.
    #[schema(example = "caption")]
    pub object: &'static str,
    /// Seconds since 1970-01-01 00:00 UTC.
    #[schema(example = 1_767_225_600)]
    pub created: u64,
    /// The name of the model that answered.
    #[schema(example = "paligemma2-3b-mix-224")]
    pub model: String,
}

impl Head {
    /// A new answer's, made now.
    fn new(object: &'static str, model: String) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            id: format!("{object}-{}", Uuid::new_v4().simple()),
            object,
            created: since_epoch.unwrap_or_default().as_secs(),
            model,
        }
    }

    /// The same with another `object`.
    pub fn with_object(self, object: &'static str) -> Self {
        Self { object, ..self }
    }
}

/// Generations under way for one request. Dropping it cancels them.
pub struct Job {
    /// In the order of the prompts.
    pub generations: Vec<Generation>,
    /// Width and height in pixels, as a person sees it, of the image of each prompt.
    pub sizes: Vec<(u32, u32)>,
    pub head: Head,
    /// Whether to answer token by token.
    pub stream: bool,
    /// Whether a stream tells the places in the queue.
    pub queue_position: bool,
    pub logprobs: bool,
    /// Of the tokens that the answers tell.
    pub tokenizer: Arc<Tokenizer>,
    pub arrived: Instant,
    /// When its answer has to be complete, masks included.
    pub deadline: Instant,
    pub request_id: RequestId,
    pub keep_alive: Duration,
}

impl Job {
    /// Checks everything, prepares the images, and submits all prompts to the engine at once.
    ///
    /// # Errors
    /// The first thing that is wrong with the request; what the engine has against it; the deadline.
    pub async fn start(state: &AppState, task: Task, request: Common) -> Result<Self, ApiError> {
        let settings = &state.settings;
        let asked = request.options.model.clone();
        let options = request
            .options
            .check(settings.request_timeout, most_tokens(state))?;
        let (model, adapter) = state.answerer(asked.as_deref())?;
        check_prompts(&task.prompts, settings.max_prompt_bytes)?;

        let deadline = request.arrival.at + options.timeout;
        let prepared = prepare(request.images, state, &request.arrival.owner);
        let prepared = tokio::time::timeout_at(deadline.into(), prepared)
            .await
            .map_err(|_| failure(Failure::DeadlineExceeded))??;
        let (keys, images): (Vec<_>, Vec<_>) = prepared.into_iter().unzip();
        request.arrival.image_keys.set(keys.into_iter());
        let max_tokens = match options.max_tokens {
            Some(tokens) => MaxTokens::Exactly(tokens),
            None => MaxTokens::AtMost(settings.max_tokens_default),
        };
        let sizes = task.prompts.iter().map(|prompt| {
            let image = &images[prompt.image];
            (image.width, image.height)
        });
        let sizes: Vec<_> = sizes.collect();
        let texts = task.prompts.iter().zip(&sizes);
        let texts: Vec<_> = texts
            .map(|(prompt, &size)| prompt.text(size))
            .collect::<Result<_, _>>()?;
        let logprobs = options
            .logprobs
            .or_else(|| task.needs_probabilities.then_some(0));
        let neighbours = task
            .needs_probabilities
            .then(|| state.bins.clone())
            .flatten();
        let requests = task
            .prompts
            .iter()
            .zip(texts)
            .map(|(prompt, text)| Request {
                image: images[prompt.image].clone(),
                adapter,
                prompt: text,
                max_tokens,
                sampling: options.sampling.clone(),
                stop: options.stop.clone(),
                logprobs,
                neighbours: neighbours.clone(),
                deadline: Some(deadline),
            });
        let generations = state
            .engine
            .submit_all(requests.collect())
            .map_err(|error| submit_error(error, &state.loading))?;
        if adapter.is_some() {
            metrics::adapter_generations(&model, generations.len());
        }
        request.arrival.usage.follow(&generations);
        // From here on the engine's queue bounds the request.
        drop((request.arrival.permit, request.arrival.received));
        Ok(Self {
            generations,
            sizes,
            head: Head::new(task.name, model),
            stream: options.stream,
            queue_position: options.queue_position,
            logprobs: options.logprobs.is_some(),
            tokenizer: state.engine.tokenizer().clone(),
            arrived: request.arrival.at,
            deadline,
            request_id: request.arrival.request_id,
            keep_alive: settings.keep_alive,
        })
    }
}

/// The most tokens that an answer can have with any prompt.
fn most_tokens(state: &AppState) -> usize {
    // Each prompt has at least the token that begins it and the newline.
    let least_prompt = state.model.image_tokens + 2;
    state.model.context.saturating_sub(least_prompt)
}

fn check_prompts(prompts: &[Prompt], max_bytes: usize) -> Result<(), ApiError> {
    for prompt in prompts {
        if let Wording::Text(text) = &prompt.wording
            && text.len() > max_bytes
        {
            let length = text.len();
            let detail =
                format!("the prompt is {length} bytes long; at most {max_bytes} are allowed");
            return Err(ApiError::new(ErrorCode::PromptTooLong, detail).param(&prompt.param));
        }
    }
    Ok(())
}

async fn prepare(
    images: Vec<ImageSource>,
    state: &AppState,
    owner: &Owner,
) -> Result<Vec<(ImageKey, Arc<Pixels>)>, ApiError> {
    // A few at a time, as those of other requests stand in the same line.
    let prepared = stream::iter(images)
        .map(|image| image.prepare(state, owner))
        .buffered(state.preprocessor.concurrency());
    // Wait for all of them, so that of several bad images the first is always reported.
    let prepared: Vec<_> = prepared.collect().await;
    prepared.into_iter().collect()
}

fn submit_error(error: SubmitError, progress: &LoadProgress) -> ApiError {
    match error {
        SubmitError::QueueFull { retry_after, .. } => {
            ApiError::new(ErrorCode::QueueFull, error.to_string()).retry_after(retry_after)
        }
        SubmitError::MaxTokens {
            max_tokens,
            allowed,
        } => out_of_context(max_tokens, allowed),
        SubmitError::PromptTooLong { .. } => {
            ApiError::new(ErrorCode::PromptTooLong, error.to_string())
        }
        SubmitError::NoAdapter => {
            ApiError::new(ErrorCode::ModelNotFound, error.to_string()).param("model")
        }
        SubmitError::TooMany { .. } => ApiError::new(ErrorCode::OutOfRange, error.to_string()),
        SubmitError::Loading => loading(progress),
        SubmitError::Draining => shutting_down(),
        SubmitError::Failed(reason) => unavailable(&reason),
        SubmitError::Tokenizer(_) => ApiError::new(ErrorCode::Internal, error.to_string()),
    }
}

/// The error that the client gets for a failed generation.
pub fn failure(failure: Failure) -> ApiError {
    match &failure {
        Failure::DeadlineExceeded => {
            ApiError::new(ErrorCode::DeadlineExceeded, failure.to_string())
        }
        Failure::ShuttingDown => shutting_down(),
        Failure::Model(_) => ApiError::new(ErrorCode::ModelFailed, failure.to_string()),
    }
}

/// The error of a generation whose events ended without a final one.
pub fn cut_off() -> ApiError {
    failure(Failure::Model("its events ended early".to_owned()))
}
