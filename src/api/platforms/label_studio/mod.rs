//! An ML backend for Label Studio: it labels a project's tasks as the project's label config asks.

mod controls;
mod label_config;
mod plan;
mod predictions;
mod regions;
mod request;

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use self::label_config::controls;
use self::plan::check_decoder;
use self::predictions::PredictRequest;
use self::regions::LabelledRegion;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::extract::body::{json_bytes, receive};
use crate::api::extract::json::Json as JsonValue;
use crate::api::extract::json_body::read_entries;
use crate::api::openapi::{NoDecoderProblem, OffProblem, Problems};
use crate::api::readiness::invites;
use crate::api::respond::problem::Problem;
use crate::api::state::AppState;

/// How the paths of all these routes begin.
pub const PREFIX: &str = "/label-studio/";

/// That the backend is there.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackendHealth {
    #[schema(example = "UP")]
    status: &'static str,
    #[schema(example = "PaliGemma")]
    model_class: &'static str,
}

/// Which model will answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackendVersion {
    /// The model's name.
    #[schema(example = "demo")]
    model_version: String,
}

/// That a message arrived.
#[derive(Debug, Serialize, ToSchema)]
pub struct Received {
    #[schema(example = "ok")]
    status: &'static str,
}

/// What Label Studio sends when a backend is connected, and before it asks for predictions; other
/// fields are passed over.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct SetupJson {
    /// The project's label config.
    schema: Option<String>,
}

/// A request for predictions; other fields are passed over.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct LabelStudioJson {
    #[schema(min_items = 1)]
    tasks: Vec<LabelStudioTask>,
    /// The project's label config, in XML.
    label_config: String,
}

/// A task; other fields are passed over.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct LabelStudioTask {
    /// Its image is in the field that the label config names: base64, a `data:` URL, an https URL of an
    /// allowed host, or the path of a file in Label Studio.
    data: Map<String, Value>,
}

/// Predictions in the order of their tasks.
#[derive(Debug, Serialize, ToSchema)]
pub struct LabelStudioPredictions {
    results: Vec<TaskPrediction>,
    /// The model's name.
    #[schema(example = "demo")]
    model_version: String,
}

/// The prediction of one task.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum TaskPrediction {
    Made {
        model_version: String,
        /// The mean score of its boxes and masks, if it has any.
        #[serde(skip_serializing_if = "Option::is_none")]
        score: Option<f32>,
        result: Vec<LabelledRegion>,
    },
    /// It can't be labelled, as when its image can't be had. Without a `result`, Label Studio stores none,
    /// writes this to its log, and asks again another time.
    Failed { error: TaskError },
}

/// Why a task has no prediction.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskError {
    code: ErrorCode,
    detail: String,
    #[schema(example = "tasks[1].data.image")]
    param: Option<String>,
}

/// Are requests taken?
#[utoipa::path(
    get,
    path = "/label-studio/health",
    tag = "labelling",
    responses(
        (status = 200, description = "They are.", body = BackendHealth),
        (status = 503, description = "Not now.",
            body = Problem, content_type = "application/problem+json"),
        OffProblem,
    ),
)]
pub async fn health(State(state): State<AppState>) -> Result<Json<BackendHealth>, ApiError> {
    invites(&state)?;
    Ok(Json(BackendHealth {
        status: "UP",
        model_class: "PaliGemma",
    }))
}

/// Are requests taken? (The same as `/label-studio/health`.)
#[utoipa::path(
    get,
    path = "/label-studio/",
    tag = "labelling",
    responses(
        (status = 200, description = "They are.", body = BackendHealth),
        (status = 503, description = "Not now.",
            body = Problem, content_type = "application/problem+json"),
        OffProblem,
    ),
)]
pub async fn root(state: State<AppState>) -> Result<Json<BackendHealth>, ApiError> {
    health(state).await
}

/// Can a project with this label config be labelled?
#[utoipa::path(
    post,
    path = "/label-studio/setup",
    tag = "labelling",
    request_body = SetupJson,
    responses(
        (status = 200, description = "It can, or has no controls yet.", body = BackendVersion),
        OffProblem,
        NoDecoderProblem,
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn setup(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<BackendVersion>, ApiError> {
    check_setup(request, &state).await.inspect_err(log)?;
    Ok(Json(BackendVersion {
        model_version: state.model.name.clone(),
    }))
}

/// Refuses a project whose label config can't be answered.
async fn check_setup(request: Request, state: &AppState) -> Result<(), ApiError> {
    let reading = async |request| json_bytes(request, state).await;
    let (_arrival, body) = receive(request, state, reading).await?;
    for (name, value) in read_entries(&body)? {
        if name != "schema" {
            continue;
        }
        let controls = match value {
            JsonValue::Null => continue,
            JsonValue::Text(xml) if xml.trim().is_empty() => continue,
            JsonValue::Text(xml) => controls(&xml),
            _ => Err(ApiError::new(
                ErrorCode::InvalidField,
                "`schema` has to be a text: the label config in XML",
            )),
        };
        let checked = controls.and_then(|controls| check_decoder(&controls, state));
        checked.map_err(|error| error.param("schema"))?;
    }
    Ok(())
}

/// Label Studio shows its users the status of a failed request and no more.
fn log(error: &ApiError) {
    tracing::warn!(
        param = error.param,
        "a request of Label Studio fails: {error}"
    );
}

/// Take note of what happened to a project: nothing follows from it
///
/// It needs no key, because Label Studio sends none here.
#[utoipa::path(
    post,
    path = "/label-studio/webhook",
    tag = "labelling",
    responses(
        (status = 200, description = "It arrived.", body = Received),
        OffProblem,
    ),
)]
pub async fn webhook() -> Json<Received> {
    Json(Received { status: "ok" })
}

/// Label tasks
///
/// Any number of tasks, which are worked on a few at a time. A task that can't be labelled, because its
/// image can't be had or the time is up, gets an `error` instead of a `result`; when that is so of all
/// tasks, the request fails.
#[utoipa::path(
    post,
    path = "/label-studio/predict",
    tag = "labelling",
    request_body = LabelStudioJson,
    responses(
        (status = 200, description = "The predictions.", body = LabelStudioPredictions),
        OffProblem,
        NoDecoderProblem,
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn predict(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<LabelStudioPredictions>, ApiError> {
    let read = PredictRequest::receive(request, &state).await;
    let predicted = async { read?.predict(&state).await };
    predicted.await.map(Json).inspect_err(log)
}
