//! `GET /openapi.yaml`: the contract, as published.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;

use super::super::openapi;

static DOCUMENT: LazyLock<String> = LazyLock::new(openapi::document);

/// This document
#[utoipa::path(
    get,
    path = "/openapi.yaml",
    tag = "operations",
    responses((status = 200, description = "It.", body = String, content_type = "application/yaml")),
)]
pub async fn document() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/yaml")],
        DOCUMENT.as_str(),
    )
}
