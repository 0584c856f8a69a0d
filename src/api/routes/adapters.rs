//! `POST /v1/load_lora_adapter` and `POST /v1/unload_lora_adapter`, as vLLM has them: adapters that come
//! and go while the server runs.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::error::{ApiError, ErrorCode};
use crate::api::openapi::AdapterProblems;
use crate::api::state::AppState;

/// An adapter to load.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// The name for which requests may ask, in the field `model`.
    #[schema(example = "counting")]
    lora_name: String,
    /// Its folder: inside of the operator's `adapter_dir`, or relative to that.
    #[schema(example = "counting")]
    lora_path: String,
}

/// An adapter to let go of.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unload {
    #[schema(example = "counting")]
    lora_name: String,
}

/// Load a LoRA adapter
///
/// Off unless the operator has set `adapter_admin`, and needs one of `adapter_admin_keys`.
#[utoipa::path(
    post,
    path = "/v1/load_lora_adapter",
    tag = "operations",
    request_body = Load,
    responses((status = 200, description = "The adapter answers from now on.", body = String, content_type = "text/plain"), AdapterProblems),
    security(("key" = [])),
)]
pub async fn load(
    State(state): State<AppState>,
    body: Result<Json<Load>, JsonRejection>,
) -> Result<String, ApiError> {
    let Load {
        lora_name,
        lora_path,
    } = read(body)?;
    if lora_name.trim().is_empty() {
        let error = ApiError::new(ErrorCode::InvalidField, "`lora_name` is empty");
        return Err(error.param("lora_name"));
    }
    let (loader, name) = (state.adapters.clone(), lora_name.clone());
    let opened = tokio::task::spawn_blocking(move || loader.open(&name, &lora_path)).await;
    let opened = opened.map_err(|error| refused(error.to_string()))?;
    let resident = opened.map_err(|error| refused(error.to_string()))?;
    let list = state.adapters.list.clone();
    let rank = resident.adapter.rank();
    let bytes = state.engine.add_adapter(resident, list).await;
    let bytes = bytes.map_err(refused)?;
    tracing::info!(name = lora_name, rank, bytes, "adapter loaded");
    Ok(format!(
        "Success: LoRA adapter '{lora_name}' added successfully."
    ))
}

/// Let go of a LoRA adapter
///
/// Answers once no request needs the adapter any more; no further ones are taken on meanwhile. Off unless
/// the operator has set `adapter_admin`, and needs one of `adapter_admin_keys`.
#[utoipa::path(
    post,
    path = "/v1/unload_lora_adapter",
    tag = "operations",
    request_body = Unload,
    responses((status = 200, description = "The adapter is gone.", body = String, content_type = "text/plain"), AdapterProblems),
    security(("key" = [])),
)]
pub async fn unload(
    State(state): State<AppState>,
    body: Result<Json<Unload>, JsonRejection>,
) -> Result<String, ApiError> {
    let Unload { lora_name } = read(body)?;
    let Some(resident) = state.adapters.list.remove(&lora_name) else {
        return Err(state.no_model(&lora_name).param("lora_name"));
    };
    state.engine.remove_adapter(resident.id).await;
    tracing::info!(name = lora_name, "adapter unloaded");
    Ok(format!(
        "Success: LoRA adapter '{lora_name}' removed successfully."
    ))
}

fn read<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, ApiError> {
    match body {
        Ok(Json(body)) => Ok(body),
        Err(JsonRejection::MissingJsonContentType(error)) => Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            error.body_text(),
        )),
        Err(JsonRejection::JsonDataError(error)) => {
            Err(ApiError::new(ErrorCode::InvalidField, error.body_text()))
        }
        Err(error) => Err(ApiError::new(ErrorCode::InvalidJson, error.body_text())),
    }
}

fn refused(reason: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidAdapter, reason)
}
