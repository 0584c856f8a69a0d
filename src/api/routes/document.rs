//! `GET /openapi.yaml`: the contract, as published.

use std::sync::LazyLock;

use axum::Extension;
use axum::http::header;
use axum::response::IntoResponse;

/// The contract as YAML, generated when it is first asked for.
#[derive(Clone)]
pub struct Document(pub &'static LazyLock<String>);

/// This document
#[utoipa::path(
    get,
    path = "/openapi.yaml",
    tag = "operations",
    responses((status = 200, description = "It.", body = String, content_type = "application/yaml")),
)]
pub async fn document(Extension(Document(text)): Extension<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/yaml")], text.as_str())
}
