//! From a checked request to the generations that answer it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use uuid::Uuid;

use super::AppState;
use super::availability::{loading, shutting_down, unavailable};
use super::error::{ApiError, ErrorCode};
use super::image_source::ImageSource;
use super::options::{CheckedOptions, Options};
use super::request_id::RequestId;
use super::response::Head;
use crate::engine::{EngineHandle, Failure, Generation, Request, SubmitError};
use crate::pixels::Pixels;

/// One prompt about one of the request's images.
#[derive(Debug)]
pub struct Prompt {
    /// The place of its image among the request's.
    pub image: usize,
    /// As PaliGemma sees it, without the final newline.
    pub text: String,
    /// The field that it comes from.
    pub param: String,
}

/// Generations under way for one request. Dropping it cancels them.
pub struct Job {
    /// In the order of the prompts.
    pub generations: Vec<Generation>,
    pub head: Head,
    /// Whether to answer token by token.
    pub stream: bool,
    pub logprobs: bool,
    pub arrived: Instant,
    pub request_id: RequestId,
    pub keep_alive: Duration,
}

/// What [`Job::start`] works on.
pub struct JobRequest {
    /// The task's name, the answer's `object`.
    pub object: &'static str,
    pub images: Vec<ImageSource>,
    pub prompts: Vec<Prompt>,
    pub options: Options,
    pub arrived: Instant,
    pub request_id: RequestId,
}

impl Job {
    /// Checks everything, makes the images ready, and hands all prompts to the engine at once.
    ///
    /// # Errors
    /// The first thing that is wrong with the request; what the engine has against it; the deadline.
    pub async fn start(state: &AppState, request: JobRequest) -> Result<Self, ApiError> {
        let options = request.options.check(state.settings.request_timeout)?;
        check_max_tokens(options.max_tokens, state)?;
        check_prompts(&request.prompts, state.settings.max_prompt_bytes)?;

        let deadline = request.arrived + options.timeout;
        let images = tokio::time::timeout_at(deadline.into(), prepare(request.images, state))
            .await
            .map_err(|_| failure(Failure::DeadlineExceeded))??;
        let requests = request.prompts.into_iter().map(|prompt| Request {
            image: images[prompt.image].clone(),
            prompt: prompt.text,
            max_tokens: options
                .max_tokens
                .unwrap_or(state.settings.max_tokens_default),
            sampling: options.sampling.clone(),
            stop: options.stop.clone(),
            logprobs: options.logprobs,
            deadline: Some(deadline),
        });
        let generations = submit(&state.engine, requests.collect(), &options)?;
        Ok(Self {
            generations,
            head: head(request.object, &state.model.name),
            stream: options.stream,
            logprobs: options.logprobs.is_some(),
            arrived: request.arrived,
            request_id: request.request_id,
            keep_alive: state.settings.keep_alive,
        })
    }
}

fn head(object: &'static str, model: &str) -> Head {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    Head {
        id: format!("{object}-{}", Uuid::new_v4().simple()),
        object,
        created: since_epoch.unwrap_or_default().as_secs(),
        model: model.to_owned(),
    }
}

/// Refuses what no prompt could make room for, before any image is decoded.
fn check_max_tokens(max_tokens: Option<usize>, state: &AppState) -> Result<(), ApiError> {
    // Each prompt has at least the token that begins it and the newline.
    let most = state
        .model
        .context
        .saturating_sub(state.model.image_tokens + 2);
    match max_tokens {
        Some(value) if value > most => Err(max_tokens_error(value, most)),
        _ => Ok(()),
    }
}

fn max_tokens_error(value: usize, allowed: usize) -> ApiError {
    let allowed = format!("1 to {allowed}, so that image, prompt and answer fit the context");
    ApiError::out_of_range("max_tokens", value, &allowed)
}

fn check_prompts(prompts: &[Prompt], max_bytes: usize) -> Result<(), ApiError> {
    match prompts.iter().find(|prompt| prompt.text.len() > max_bytes) {
        None => Ok(()),
        Some(prompt) => Err(ApiError::new(
            ErrorCode::PromptTooLong,
            format!(
                "the prompt is {} bytes long; at most {max_bytes} are allowed",
                prompt.text.len()
            ),
        )
        .param(&prompt.param)),
    }
}

async fn prepare(images: Vec<ImageSource>, state: &AppState) -> Result<Vec<Arc<Pixels>>, ApiError> {
    let prepared = images
        .into_iter()
        .map(|image| image.prepare(&state.fetcher, &state.preprocessor));
    // All of them are waited for, so that of several bad images always the first is reported.
    let pixels: Result<Vec<_>, _> = join_all(prepared).await.into_iter().collect();
    Ok(pixels?.into_iter().map(Arc::new).collect())
}

/// Submits all or none. Where the client named no `max_tokens`, the default gives way to a prompt
/// that leaves less room.
fn submit(
    engine: &EngineHandle,
    mut requests: Vec<Request>,
    options: &CheckedOptions,
) -> Result<Vec<Generation>, ApiError> {
    loop {
        match engine.submit_all(requests.clone()) {
            Err(SubmitError::MaxTokens {
                max_tokens,
                allowed,
            }) if options.max_tokens.is_none() && (1..max_tokens).contains(&allowed) => {
                for request in &mut requests {
                    request.max_tokens = request.max_tokens.min(allowed);
                }
            }
            submitted => return submitted.map_err(submit_error),
        }
    }
}

fn submit_error(error: SubmitError) -> ApiError {
    match error {
        SubmitError::QueueFull { retry_after, .. } => {
            ApiError::new(ErrorCode::QueueFull, error.to_string()).retry_after(retry_after)
        }
        SubmitError::MaxTokens {
            max_tokens,
            allowed,
        } => max_tokens_error(max_tokens, allowed),
        SubmitError::PromptTooLong { .. } => {
            ApiError::new(ErrorCode::PromptTooLong, error.to_string())
        }
        SubmitError::TooMany { .. } => ApiError::new(ErrorCode::OutOfRange, error.to_string()),
        SubmitError::Loading => loading(),
        SubmitError::Draining => shutting_down(),
        SubmitError::Failed(reason) => unavailable(&reason),
        SubmitError::Tokenizer(_) => ApiError::new(ErrorCode::Internal, error.to_string()),
    }
}

/// What a failed generation means to the client.
pub fn failure(failure: Failure) -> ApiError {
    match &failure {
        Failure::DeadlineExceeded => {
            ApiError::new(ErrorCode::DeadlineExceeded, failure.to_string())
        }
        Failure::ShuttingDown => shutting_down(),
        Failure::Model(_) => ApiError::new(ErrorCode::ModelFailed, failure.to_string()),
    }
}

/// A generation whose events ended before its end.
pub fn cut_off() -> ApiError {
    failure(Failure::Model("its events ended early".to_owned()))
}
