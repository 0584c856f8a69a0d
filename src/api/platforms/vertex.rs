//! Vertex AI: health and predictions at the paths that it names in a container's environment.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::predict::{Instances, Predictions};
use crate::api::error::ApiError;
use crate::api::routes::health;
use crate::api::state::AppState;
use crate::settings::Vertex;

/// The path of health, unless the contract has a route there already.
pub fn health(vertex: &Vertex, is_route: impl Fn(&str) -> bool) -> Router<AppState> {
    match is_route(&vertex.health_route) {
        true => Router::new(),
        false => Router::new().route(&vertex.health_route, get(health::ready)),
    }
}

/// The path of predictions, unless the contract has a route there already, which then answers in its way.
pub fn predictions(vertex: &Vertex, is_route: impl Fn(&str) -> bool) -> Router<AppState> {
    match is_route(&vertex.predict_route) {
        true => Router::new(),
        false => Router::new().route(&vertex.predict_route, post(predict)),
    }
}

async fn predict(
    State(state): State<AppState>,
    instances: Instances,
) -> Result<Json<Predictions>, ApiError> {
    instances.predict(&state).await
}
