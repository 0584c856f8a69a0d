//! KServe: health and models of its second protocol, predictions of its first.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::predict::{Instances, PredictJson, Predictions};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::openapi::{ModelProblems, OffProblem, Problems};
use crate::api::readiness::invites;
use crate::api::respond::problem::Problem;
use crate::api::state::AppState;
use crate::build_info::VERSION;

/// What this server is.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerMetadata {
    #[schema(example = "paligemma-server")]
    name: &'static str,
    #[schema(example = "0.1.0")]
    version: &'static str,
    extensions: [&'static str; 0],
}

/// Whether the process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerLive {
    live: bool,
}

/// Whether requests are taken.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerReady {
    ready: bool,
}

/// What goes into a model and what comes out, or whether it is ready.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ModelMetadata {
    Described {
        #[schema(example = "demo")]
        name: String,
        /// A family of models, not a framework.
        #[schema(example = "paligemma")]
        platform: &'static str,
        inputs: [TensorMetadata; 2],
        outputs: [TensorMetadata; 1],
    },
    Ready {
        name: String,
        ready: bool,
    },
}

/// One input or output.
#[derive(Debug, Serialize, ToSchema)]
pub struct TensorMetadata {
    name: &'static str,
    datatype: &'static str,
    shape: [i64; 1],
}

/// Any number of texts.
const fn texts(name: &'static str) -> TensorMetadata {
    TensorMetadata {
        name,
        datatype: "BYTES",
        shape: [-1],
    }
}

/// What this server is
#[utoipa::path(
    get,
    path = "/v2",
    tag = "platforms",
    responses(
        (status = 200, description = "Its name and version.", body = ServerMetadata),
        OffProblem,
    ),
)]
pub async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata {
        name: env!("CARGO_PKG_NAME"),
        version: VERSION,
        extensions: [],
    })
}

/// Is the process alive?
#[utoipa::path(
    get,
    path = "/v2/health/live",
    tag = "platforms",
    responses(
        (status = 200, description = "It is.", body = ServerLive),
        OffProblem,
    ),
)]
pub async fn live() -> Json<ServerLive> {
    Json(ServerLive { live: true })
}

/// Are requests taken?
#[utoipa::path(
    get,
    path = "/v2/health/ready",
    tag = "platforms",
    responses(
        (status = 200, description = "They are.", body = ServerReady),
        (status = 503, description = "Not now.",
            body = Problem, content_type = "application/problem+json"),
        OffProblem,
    ),
)]
pub async fn ready(State(state): State<AppState>) -> Result<Json<ServerReady>, ApiError> {
    invites(&state)?;
    Ok(Json(ServerReady { ready: true }))
}

/// What goes into a model and what comes out; with `/ready` after its name, whether it takes requests
#[utoipa::path(
    get,
    // A hub id has a slash in it.
    path = "/v2/models/{*id}",
    tag = "platforms",
    params(("id" = String, Path, description = "The model's name, or an adapter's; or one with `/ready` after it.", example = "demo")),
    responses(
        (status = 200, description = "The model or adapter.", body = ModelMetadata),
        (status = 503, description = "With `/ready`: not now.",
            body = Problem, content_type = "application/problem+json"),
        ModelProblems,
    ),
    security((), ("key" = [])),
)]
pub async fn model(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<ModelMetadata>, ApiError> {
    let asks_ready = id.strip_suffix("/ready");
    let (name, _) = state.answerer(Some(asks_ready.unwrap_or(&id)))?;
    if asks_ready.is_some() {
        invites(&state)?;
        return Ok(Json(ModelMetadata::Ready { name, ready: true }));
    }
    Ok(Json(ModelMetadata::Described {
        name,
        platform: "paligemma",
        inputs: [texts("prompt"), texts("image")],
        outputs: [texts("response")],
    }))
}

/// Answer prompts about images: instances in, predictions out
#[utoipa::path(
    post,
    path = "/v1/models/{*id}",
    tag = "platforms",
    params(("id" = String, Path, description = "The name of the model or adapter with `:predict` after it.", example = "demo:predict")),
    request_body = PredictJson,
    responses(
        (status = 200, description = "The predictions.", body = Predictions),
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn predict(
    State(state): State<AppState>,
    Path(id): Path<String>,
    instances: Instances,
) -> Result<Json<Predictions>, ApiError> {
    let Some(model) = id.strip_suffix(":predict") else {
        let shown: String = id.chars().take(128).collect();
        let detail = format!(
            "there is no `POST /v1/models/{shown}`; for predictions, `:predict` follows the model's name"
        );
        return Err(ApiError::new(ErrorCode::NotFound, detail));
    };
    instances.of_model(model.to_owned()).predict(&state).await
}
