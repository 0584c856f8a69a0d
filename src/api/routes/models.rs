//! `GET /v1/models` and `GET /v1/models/{id}`: the model that is served, and its adapters.

use axum::Json;
use axum::extract;
use axum::extract::Path;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::openapi::{KeyProblem, ModelProblems};
use crate::api::state::AppState;
use crate::build_info::Build;
use crate::engine::State;
use crate::models::Resident;
use crate::settings::TaskName;

/// A list with the model, under each of its names, and its adapters, in OpenAI's shape.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<Model>,
}

/// The model.
#[derive(Debug, Serialize, ToSchema)]
pub struct Model {
    #[schema(example = "paligemma2-3b-mix-224")]
    id: String,
    #[schema(example = "model")]
    object: &'static str,
    /// When the server started: seconds since 1970-01-01 00:00 UTC.
    #[schema(example = 1_767_225_600)]
    created: u64,
    #[schema(example = "paligemma-server")]
    owned_by: &'static str,
    /// The model that this is an adapter of; absent for the model itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// The adapter that was merged into the model's weights at start; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    merged_adapter: Option<String>,
    /// What to know before using it; only the built-in demo has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'static str>,
    /// `ready`, `loading`, `shutting_down` or `unavailable`.
    #[schema(example = "ready")]
    status: &'static str,
    /// The share that is loaded, from 0 to 1.
    #[schema(example = 1.0)]
    loaded: f32,
    /// Tasks that it is good at, by the names of their routes.
    #[schema(example = json!(["caption", "vqa", "ocr", "detect", "segment"]))]
    tasks: Vec<TaskName>,
    /// Width and height, in pixels, to which every image is resized.
    #[schema(example = 224)]
    image_size: u32,
    /// Tokens that stand for one image.
    #[schema(example = 256)]
    image_tokens: usize,
    /// Tokens that image, prompt and answer may have together.
    #[schema(example = 1024)]
    context: usize,
    /// What the weights are held in.
    #[schema(example = "bf16")]
    dtype: String,
    /// Where the model runs.
    #[schema(example = "cuda:0")]
    device: String,
    /// What the server was built from.
    build: Build,
    /// The processor's instructions that multiply; only on an x86-64 CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "avx512-vnni")]
    instructions: Option<String>,
}

impl Model {
    /// The model under one of its names.
    fn named(name: &str, state: &AppState) -> Self {
        let model = &state.model;
        let (status, loaded) = match state.engine.state() {
            State::Ready => ("ready", 1.0),
            State::Loading | State::Restarting => ("loading", state.loading.share()),
            State::Draining => ("shutting_down", 1.0),
            State::Failed(_) => ("unavailable", 0.0),
        };
        Self {
            id: name.to_owned(),
            object: "model",
            created: model.created,
            owned_by: "paligemma-server",
            parent: None,
            merged_adapter: model.merged_adapter.clone(),
            description: model.description,
            status,
            loaded,
            tasks: model.tasks.clone(),
            image_size: model.image_size,
            image_tokens: model.image_tokens,
            context: model.context,
            dtype: model.dtype.clone(),
            device: model.device.clone(),
            build: Build::THIS,
            instructions: model.instructions.clone(),
        }
    }

    /// An adapter of the model.
    fn adapter(resident: &Resident, state: &AppState) -> Self {
        Self {
            created: resident.created,
            parent: Some(state.model.name.clone()),
            ..Self::named(&resident.name, state)
        }
    }
}

/// The model that is served, and its adapters
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "operations",
    responses(
        (status = 200, description = "A list with the model, once under each of its names, and its adapters.", body = ModelList),
        KeyProblem,
    ),
    security((), ("key" = [])),
)]
pub async fn models(extract::State(state): extract::State<AppState>) -> Json<ModelList> {
    let names = state.model.names();
    let models = names.map(|name| Model::named(name, &state));
    let adapters = state.adapters.list.all();
    let adapters = adapters.iter().map(|it| Model::adapter(it, &state));
    Json(ModelList {
        object: "list",
        data: models.chain(adapters).collect(),
    })
}

/// The model or adapter of that name
#[utoipa::path(
    get,
    // A hub id has a slash in it, which clients write as it is or escape.
    path = "/v1/models/{*id}",
    tag = "operations",
    params(("id" = String, Path, description = "The model's name, or an adapter's.")),
    responses(
        (status = 200, description = "The model or adapter.", body = Model),
        ModelProblems,
    ),
    security((), ("key" = [])),
)]
pub async fn model(
    extract::State(state): extract::State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<Model>, ApiError> {
    if state.model.names().any(|name| name == id) {
        return Ok(Json(Model::named(&id, &state)));
    }
    match state.adapters.list.get(&id) {
        Some(adapter) => Ok(Json(Model::adapter(&adapter, &state))),
        None => Err(state.no_model(&id)),
    }
}
