//! SageMaker: `GET /ping` and `POST /invocations`.

use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};

use super::predict::Instances;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::extract::body::{Submission, json_bytes, receive};
use crate::api::extract::json_body::read_entries;
use crate::api::openai::chat::{self, ChatFields};
use crate::api::openai::request::OpenAiRequest;
use crate::api::openapi::{OffProblem, Problems};
use crate::api::readiness::invites;
use crate::api::respond::problem::Problem;
use crate::api::routes::generate::{self, GenerateFields};
use crate::api::state::AppState;

/// Are requests taken?
#[utoipa::path(
    get,
    path = "/ping",
    tag = "platforms",
    responses(
        (status = 200, description = "They are."),
        (status = 503, description = "Not now.",
            body = Problem, content_type = "application/problem+json"),
        OffProblem,
    ),
)]
pub async fn ping(State(state): State<AppState>) -> Result<(), ApiError> {
    invites(&state)
}

/// What an invocation asks for, by the fields that it has.
pub enum Invocation {
    /// `messages`: what `/v1/chat/completions` takes.
    Chat(OpenAiRequest<ChatFields>),
    /// `instances`: what `/v1/models/{id}:predict` takes.
    Predict(Instances),
    /// `prompt`: what `/v1/generate` takes.
    Generate(Submission<GenerateFields>),
}

impl FromRequest<AppState> for Invocation {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let reading = async |request| json_bytes(request, state).await;
        let (arrival, body) = receive(request, state, reading).await?;
        let entries = read_entries(&body)?;
        let has = |field: &str| entries.iter().any(|(name, _)| name == field);
        if has("messages") {
            OpenAiRequest::read(arrival, &body).map(Self::Chat)
        } else if has("instances") {
            Instances::read(arrival, &body, state).map(Self::Predict)
        } else if has("prompt") {
            Submission::read(arrival, &body, state).map(Self::Generate)
        } else {
            let detail = "an invocation needs one of `prompt` (with `image`, as for /v1/generate), `messages` (as for /v1/chat/completions) and `instances` (as for /v1/models/{id}:predict)";
            Err(ApiError::new(ErrorCode::MissingField, detail).param("prompt"))
        }
    }
}

/// Ask anything: the body is one of `/v1/generate`, `/v1/chat/completions` or `/v1/models/{id}:predict`
#[utoipa::path(
    post,
    path = "/invocations",
    tag = "platforms",
    request_body(content = Value, content_type = "application/json"),
    responses(
        (status = 200, description = "What that route answers.", content(
            (Value = "application/json"),
            (String = "text/event-stream"),
        )),
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn invocations(
    state: State<AppState>,
    invocation: Invocation,
) -> Result<Response, ApiError> {
    match invocation {
        Invocation::Chat(request) => chat::chat(state, request).await,
        Invocation::Predict(instances) => Ok(instances.predict(&state).await?.into_response()),
        Invocation::Generate(submission) => generate::generate(state, submission).await,
    }
}
