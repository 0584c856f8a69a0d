//! `GET /openapi.yaml`: the contract, as published.

use axum::http::header;
use axum::response::IntoResponse;

/// The same text as [`crate::api::openapi::document`]; a test holds them equal.
const DOCUMENT: &str = include_str!("../../../openapi.yaml");

/// This document
#[utoipa::path(
    get,
    path = "/openapi.yaml",
    tag = "operations",
    responses((status = 200, description = "It.", body = String, content_type = "application/yaml")),
)]
pub async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/yaml")], DOCUMENT)
}
