//! Health: is the process alive, and does it take requests?

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::readiness::invites;
use crate::api::respond::problem::Problem;
use crate::api::state::AppState;

/// The server's health.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `live` or `ready`.
    #[schema(example = "ready")]
    status: &'static str,
}

/// Is the process alive?
///
/// 200 for as long as it answers at all, also while the model is being loaded. A process whose
/// model has failed ends by itself.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "operations",
    responses((status = 200, description = "It is.", body = Health)),
)]
pub async fn live() -> Json<Health> {
    Json(Health { status: "live" })
}

/// Is the process alive? (The same as `/health/live`.)
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operations",
    responses((status = 200, description = "It is.", body = Health)),
)]
pub async fn healthz() -> Json<Health> {
    live().await
}

/// Are requests taken?
///
/// 503 while the model is being loaded, after it has failed, and while the server shuts down.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "operations",
    responses(
        (status = 200, description = "They are.", body = Health),
        (status = 503, description = "Not now: `loading`, `shutting_down` or `unavailable`.",
            body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn ready(State(state): State<AppState>) -> Result<Json<Health>, ApiError> {
    invites(&state)?;
    Ok(Json(Health { status: "ready" }))
}

/// Are requests taken? (The same as `/health/ready`.)
#[utoipa::path(
    get,
    path = "/health",
    tag = "operations",
    responses(
        (status = 200, description = "They are.", body = Health),
        (status = 503, description = "Not now.",
            body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn health(state: State<AppState>) -> Result<Json<Health>, ApiError> {
    ready(state).await
}

/// Are requests taken? (The same as `/health/ready`.)
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses(
        (status = 200, description = "They are.", body = Health),
        (status = 503, description = "Not now.",
            body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn readyz(state: State<AppState>) -> Result<Json<Health>, ApiError> {
    ready(state).await
}
