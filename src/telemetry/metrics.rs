//! All metrics: their names, their meaning, and the function that sets each.
//!
//! Names begin with `paligemma_` and end in their base unit; those of the process have the names that
//! all of Prometheus' clients use, and some are there under others' names, too. [`Metrics::install`] registers the series of the engine with the
//! value 0, so that they exist before their first event and rates and alerts see it. Those of HTTP
//! requests come with the first request: routes times statuses would be hundreds that never count.

mod exposition;
mod preparing;
mod recorder;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::build_info;

pub use preparing::{Preparing, Stage};
pub use recorder::Metrics;

/// Bucket bounds in seconds, for durations from a millisecond to minutes.
const SECONDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];

/// Bucket bounds for numbers of sequences.
const SEQUENCES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// A metric's name and what it means.
type Metric = (&'static str, &'static str);

const HTTP_REQUESTS: Metric = (
    "paligemma_http_requests_total",
    "Answered HTTP requests, by method, route and status.",
);
const HTTP_SECONDS: Metric = (
    "paligemma_http_request_duration_seconds",
    "Time from an HTTP request to the end of its response (or stream), by method and route.",
);
const QUEUE_LENGTH: Metric = ("paligemma_queue_length", "Generations waiting for a slot.");
const QUEUE_CAPACITY: Metric = (
    "paligemma_queue_capacity",
    "Most generations that may wait for a slot; further ones are rejected.",
);
const SLOTS_USED: Metric = (
    "paligemma_slots_used",
    "Sequences in the model: in the vision tower, in prefill or decoding.",
);
const SLOTS: Metric = ("paligemma_slots", "Most sequences in the model at once.");
const READY: Metric = (
    "paligemma_ready",
    "1 while the server takes requests, otherwise 0.",
);
const QUEUE_SECONDS: Metric = (
    "paligemma_queue_seconds",
    "Time from a generation's submission to the first work on it.",
);
const VISION_SECONDS: Metric = (
    "paligemma_vision_seconds",
    "Time from the first work on a generation to its image features, if they were not cached.",
);
const PREFILL_SECONDS: Metric = (
    "paligemma_prefill_seconds",
    "Time from a generation's image features to its first token.",
);
const DECODE_SECONDS: Metric = (
    "paligemma_decode_seconds",
    "Time from a generation's first token to its last.",
);
const FIRST_TOKEN_SECONDS: Metric = (
    "paligemma_time_to_first_token_seconds",
    "Time from a generation's submission to its first token.",
);
const INTER_TOKEN_SECONDS: Metric = (
    "paligemma_inter_token_seconds",
    "Time from one token of a generation to the next.",
);
const STEP_SECONDS: Metric = (
    "paligemma_step_seconds",
    "Duration of one model step, with all its sequences.",
);
const BATCH_SIZE: Metric = (
    "paligemma_decode_batch_size",
    "Sequences decoded together in one step.",
);
const PREFILL_BATCH_SIZE: Metric = (
    "paligemma_prefill_batch_size",
    "Sequences prefilled together in one batch.",
);
const IMAGE_TOKENS: Metric = ("paligemma_image_tokens_total", "Image tokens processed.");
const PROMPT_TOKENS: Metric = ("paligemma_prompt_tokens_total", "Prompt tokens processed.");
const COMPLETION_TOKENS: Metric = ("paligemma_completion_tokens_total", "Tokens generated.");
const CACHE_HITS: Metric = (
    "paligemma_image_cache_hits_total",
    "Generations whose image features were cached or being computed for another generation.",
);
const CACHE_MISSES: Metric = (
    "paligemma_image_cache_misses_total",
    "Images encoded by the vision tower.",
);
const CACHE_BYTES: Metric = (
    "paligemma_image_cache_bytes",
    "Size of the cached image features.",
);
const CACHE_CAPACITY: Metric = (
    "paligemma_image_cache_capacity_bytes",
    "Most bytes of cached image features.",
);
const FINISHED: Metric = (
    "paligemma_generations_finished_total",
    "Finished generations, by reason.",
);
const CANCELLED: Metric = (
    "paligemma_generations_cancelled_total",
    "Generations cancelled because the client disconnected, by stage.",
);
const FAILED: Metric = (
    "paligemma_generations_failed_total",
    "Generations that failed, by reason.",
);
const REJECTED: Metric = (
    "paligemma_generations_rejected_total",
    "Generations that were rejected, by reason.",
);

const BUILD_INFO: Metric = (
    "paligemma_build_info",
    "Always 1. The version, its commit if the build recorded it, whether it was built with CUDA, and the processor's instructions in use.",
);
const CONNECTIONS: Metric = (
    "paligemma_http_connections",
    "Open connections, idle ones included.",
);
const PREPARING: Metric = (
    "paligemma_preparing",
    "Requests before the queue, or their images, by stage.",
);
const PREPARING_SECONDS: Metric = (
    "paligemma_preparing_seconds",
    "Time that a request, or one of its images, spent in a stage before the queue.",
);
const ADAPTER_GENERATIONS: Metric = (
    "paligemma_adapter_generations_total",
    "Generations that were submitted, by the adapter that answers.",
);
const NAMED_IMAGES: Metric = (
    "paligemma_named_images_total",
    "Images that requests named by their key instead of sending them, and whether they were here.",
);
const KEY_REQUESTS: Metric = (
    "paligemma_key_requests_total",
    "Requests by the name of their API key, and whether its limits let them through.",
);
const MODEL_LOAD_SECONDS: Metric = (
    "paligemma_model_load_seconds",
    "Duration of the model's last load; 0 before the first is done.",
);
const MODEL_RESTARTS: Metric = (
    "paligemma_model_restarts_total",
    "Times the model failed and was loaded again.",
);

// Names by which routers, autoscalers and dashboards know other servers: vLLM's, and those of
// OpenTelemetry's conventions for generative AI.
const VLLM_WAITING: Metric = (
    "vllm:num_requests_waiting",
    "paligemma_queue_length and all of paligemma_preparing together, under vLLM's name.",
);
const VLLM_RUNNING: Metric = (
    "vllm:num_requests_running",
    "paligemma_slots_used under vLLM's name.",
);
const VLLM_CACHE: Metric = (
    "vllm:kv_cache_usage_perc",
    "The share of slots in use, from 0 to 1, under vLLM's name.",
);
const GEN_AI_REQUEST: Metric = (
    "gen_ai_server_request_duration_seconds",
    "Time from a generation's submission to its end, under OpenTelemetry's name.",
);
const GEN_AI_FIRST_TOKEN: Metric = (
    "gen_ai_server_time_to_first_token_seconds",
    "paligemma_time_to_first_token_seconds under OpenTelemetry's name.",
);
const GEN_AI_TOKEN: Metric = (
    "gen_ai_server_time_per_output_token_seconds",
    "A generation's mean time between tokens after the first, under OpenTelemetry's name.",
);

/// Counters without labels.
const COUNTERS: [Metric; 6] = [
    MODEL_RESTARTS,
    IMAGE_TOKENS,
    PROMPT_TOKENS,
    COMPLETION_TOKENS,
    CACHE_HITS,
    CACHE_MISSES,
];

/// Counters with one label, and all its values.
const LABELLED_COUNTERS: [(Metric, &str, &[&str]); 4] = [
    (FINISHED, "reason", &["stop", "length"]),
    (CANCELLED, "stage", &["queue", "prefill", "decode"]),
    (FAILED, "reason", &["deadline", "shutdown", "model"]),
    (
        REJECTED,
        "reason",
        &[
            "queue_full",
            "uploads",
            "invalid",
            "loading",
            "draining",
            "failed",
        ],
    ),
];

const GAUGES: [Metric; 12] = [
    VLLM_WAITING,
    VLLM_RUNNING,
    VLLM_CACHE,
    CONNECTIONS,
    QUEUE_LENGTH,
    QUEUE_CAPACITY,
    SLOTS_USED,
    SLOTS,
    READY,
    MODEL_LOAD_SECONDS,
    CACHE_BYTES,
    CACHE_CAPACITY,
];

/// Histograms without labels, and their buckets.
const HISTOGRAMS: [(Metric, &[f64]); 12] = [
    (GEN_AI_REQUEST, &SECONDS),
    (GEN_AI_FIRST_TOKEN, &SECONDS),
    (GEN_AI_TOKEN, &SECONDS),
    (QUEUE_SECONDS, &SECONDS),
    (VISION_SECONDS, &SECONDS),
    (PREFILL_SECONDS, &SECONDS),
    (DECODE_SECONDS, &SECONDS),
    (FIRST_TOKEN_SECONDS, &SECONDS),
    (INTER_TOKEN_SECONDS, &SECONDS),
    (STEP_SECONDS, &SECONDS),
    (BATCH_SIZE, &SEQUENCES),
    (PREFILL_BATCH_SIZE, &SEQUENCES),
];

/// What was reported last, for metrics that are made of several.
static QUEUED: AtomicUsize = AtomicUsize::new(0);
static SLOTS_THERE: AtomicUsize = AtomicUsize::new(0);

/// An HTTP request was answered. `route` is the matched pattern, never the path itself.
pub fn http_request(method: &'static str, route: &str, status: u16, duration: Duration) {
    let route = route.to_owned();
    let status = status.to_string();
    let labels = [("method", method.to_owned()), ("route", route.clone())];
    histogram!(HTTP_SECONDS.0, &labels).record(duration);
    counter!(HTTP_REQUESTS.0, "method" => method, "route" => route, "status" => status)
        .increment(1);
}

/// What runs. `instructions` are those of the processor that our own kernels use, if they run.
pub fn build(instructions: Option<&str>) {
    let labels = [
        ("version", build_info::VERSION.to_owned()),
        (
            "revision",
            build_info::REVISION.unwrap_or_default().to_owned(),
        ),
        ("cuda", build_info::CUDA.to_string()),
        ("instructions", instructions.unwrap_or_default().to_owned()),
    ];
    gauge!(BUILD_INFO.0, &labels).set(1.0);
}

/// The model was loaded.
pub(crate) fn model_loaded(duration: Duration) {
    gauge!(MODEL_LOAD_SECONDS.0).set(duration.as_secs_f64());
}

/// The engine's limits, known once it starts.
pub(crate) fn capacities(slots: usize, queue: usize, image_cache_bytes: usize) {
    gauge!(SLOTS.0).set(slots as f64);
    SLOTS_THERE.store(slots, Relaxed);
    gauge!(QUEUE_CAPACITY.0).set(queue as f64);
    gauge!(CACHE_CAPACITY.0).set(image_cache_bytes as f64);
}

/// What there is to tell before there is an engine, in Prometheus' text format: that it is not ready.
pub fn before_the_engine() -> String {
    let (name, help) = READY;
    format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} 0\n")
}

/// Whether the engine takes requests.
pub(crate) fn ready(ready: bool) {
    gauge!(READY.0).set(f64::from(u8::from(ready)));
}

/// A request came with the key of that name; `outcome` is taken or refused.
pub(crate) fn key_request(name: &str, outcome: &'static str) {
    let labels = [("key", name.to_owned()), ("outcome", outcome.to_owned())];
    counter!(KEY_REQUESTS.0, &labels).increment(1);
}

/// Generations were submitted for the adapter of that name.
pub(crate) fn adapter_generations(name: &str, count: usize) {
    counter!(ADAPTER_GENERATIONS.0, "adapter" => name.to_owned()).increment(count as u64);
}

/// A request named an image by its key.
pub(crate) fn named_image(found: bool) {
    let outcome = if found { "found" } else { "gone" };
    counter!(NAMED_IMAGES.0, "outcome" => outcome).increment(1);
}

/// How many connections are open.
pub(crate) fn connections(open: usize) {
    gauge!(CONNECTIONS.0).set(open as f64);
}

/// The model failed and is loaded again.
pub(crate) fn model_restart() {
    counter!(MODEL_RESTARTS.0).increment(1);
}

/// The numbers of generations in the queue and in the model.
pub(crate) fn load(queued: usize, slots_used: usize) {
    gauge!(QUEUE_LENGTH.0).set(queued as f64);
    gauge!(SLOTS_USED.0).set(slots_used as f64);
    let before = QUEUED.swap(queued, Relaxed);
    gauge!(VLLM_WAITING.0).increment(queued as f64 - before as f64);
    gauge!(VLLM_RUNNING.0).set(slots_used as f64);
    let slots = SLOTS_THERE.load(Relaxed).max(1);
    gauge!(VLLM_CACHE.0).set(slots_used as f64 / slots as f64);
}

/// The model ran one step that decoded `batch` sequences.
pub(crate) fn step(batch: usize, duration: Duration) {
    histogram!(STEP_SECONDS.0).record(duration);
    if batch > 0 {
        histogram!(BATCH_SIZE.0).record(batch as f64);
    }
}

/// A prefill batch of `sequences` started; `encoded` of their images were not cached.
pub(crate) fn prefill_batch(sequences: usize, encoded: usize) {
    histogram!(PREFILL_BATCH_SIZE.0).record(sequences as f64);
    counter!(CACHE_MISSES.0).increment(encoded as u64);
    counter!(CACHE_HITS.0).increment((sequences - encoded) as u64);
}

/// The cached image features now take `bytes`.
pub(crate) fn image_cache(bytes: usize) {
    gauge!(CACHE_BYTES.0).set(bytes as f64);
}

/// A generation left the queue for the model.
pub(crate) fn started(queued: Duration, image_tokens: usize, prompt_tokens: usize) {
    histogram!(QUEUE_SECONDS.0).record(queued);
    counter!(IMAGE_TOKENS.0).increment(image_tokens as u64);
    counter!(PROMPT_TOKENS.0).increment(prompt_tokens as u64);
}

/// A generation's image went through the vision tower.
pub(crate) fn vision(duration: Duration) {
    histogram!(VISION_SECONDS.0).record(duration);
}

/// A generation produced its first token.
pub(crate) fn first_token(prefill: Duration, since_submission: Duration) {
    histogram!(PREFILL_SECONDS.0).record(prefill);
    histogram!(FIRST_TOKEN_SECONDS.0).record(since_submission);
    histogram!(GEN_AI_FIRST_TOKEN.0).record(since_submission);
}

/// A generation produced a token after its first.
pub(crate) fn next_token(since_last: Duration) {
    histogram!(INTER_TOKEN_SECONDS.0).record(since_last);
}

/// A token was generated (an end-of-sequence token isn't counted).
pub(crate) fn completion_token() {
    counter!(COMPLETION_TOKENS.0).increment(1);
}

/// A generation finished after `tokens` tokens, the end's counted: after decoding for `decode`, and
/// after `total` since its submission. `reason` is one of those listed for the metric.
pub(crate) fn finished(reason: &'static str, tokens: u32, decode: Duration, total: Duration) {
    histogram!(DECODE_SECONDS.0).record(decode);
    histogram!(GEN_AI_REQUEST.0).record(total);
    if tokens > 1 {
        histogram!(GEN_AI_TOKEN.0).record(decode / (tokens - 1));
    }
    counter!(FINISHED.0, "reason" => reason).increment(1);
}

/// A generation's client disconnected; `stage` is one of those listed for the metric.
pub(crate) fn cancelled(stage: &'static str) {
    counter!(CANCELLED.0, "stage" => stage).increment(1);
}

/// A generation failed; `reason` is one of those listed for the metric.
pub(crate) fn failed(reason: &'static str) {
    counter!(FAILED.0, "reason" => reason).increment(1);
}

/// `generations` were rejected; `reason` is one of those listed for the metric.
pub(crate) fn rejected(reason: &'static str, generations: usize) {
    counter!(REJECTED.0, "reason" => reason).increment(generations as u64);
}
