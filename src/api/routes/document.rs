//! `GET /openapi.yaml` and `GET /openapi.json`: the contract, as published.

use std::sync::LazyLock;

use axum::Extension;
use axum::http::header;
use axum::response::IntoResponse;

/// The contract in both notations, each generated when it is first asked for.
#[derive(Clone)]
pub struct Document {
    pub yaml: &'static LazyLock<String>,
    pub json: &'static LazyLock<String>,
}

/// This document
#[utoipa::path(
    get,
    path = "/openapi.yaml",
    tag = "operations",
    responses((status = 200, description = "It.", body = Object, content_type = "application/yaml")),
)]
pub async fn openapi_yaml(Extension(document): Extension<Document>) -> impl IntoResponse {
    let content_type = [(header::CONTENT_TYPE, "application/yaml")];
    (content_type, document.yaml.as_str())
}

/// This document as JSON
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "operations",
    responses((status = 200, description = "It.", body = Object, content_type = "application/json")),
)]
pub async fn openapi_json(Extension(document): Extension<Document>) -> impl IntoResponse {
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (content_type, document.json.as_str())
}
