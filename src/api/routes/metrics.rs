//! `GET /metrics`: what Prometheus scrapes.

use std::collections::BTreeSet;
use std::time::SystemTime;

use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;

use crate::api::state::AppState;
use crate::models::{AdapterId, Resident};

/// Prometheus' text format.
pub const CONTENT_TYPE: [(HeaderName, &str); 1] = [(
    header::CONTENT_TYPE,
    "text/plain; version=0.0.4; charset=utf-8",
)];

/// Metrics in Prometheus' text format
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses((status = 200, description = "All metrics.", body = String, content_type = "text/plain")),
)]
pub async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    let text = state.metrics.render() + &adapters(&state);
    (CONTENT_TYPE, text)
}

/// Which adapters requests use, as vLLM says it: in labels, which change from one time to the next, so
/// that a recorder of metrics would keep all that there ever were.
fn adapters(state: &AppState) -> String {
    let resident = state.adapters.list.all();
    if resident.is_empty() {
        return String::new();
    }
    let [running, waiting] = state.engine.adapters_in_use();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    format!(
        "# HELP vllm:lora_requests_info Adapters of running and of waiting requests.\n\
         # TYPE vllm:lora_requests_info gauge\n\
         vllm:lora_requests_info{{max_lora=\"{}\",running_lora_adapters=\"{}\",waiting_lora_adapters=\"{}\"}} {:.3}\n",
        state.settings.max_adapters,
        names(&resident, &running),
        names(&resident, &waiting),
        now.unwrap_or_default().as_secs_f64()
    )
}

fn names(resident: &[Resident], used: &BTreeSet<AdapterId>) -> String {
    let used = resident.iter().filter(|it| used.contains(&it.id));
    used.map(|it| it.name.as_str())
        .collect::<Vec<_>>()
        .join(",")
}
