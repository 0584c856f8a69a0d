//! All metrics, and the function that sets each. Names and meanings are in the catalogue.
//!
//! Names begin with `paligemma_` and end in their base unit; those of the process have the names that
//! all of Prometheus' clients use, and some are there under others' names, too. [`Metrics::install`] registers the series of the engine with the
//! value 0, so that they exist before their first event and rates and alerts see it. Those of HTTP
//! requests come with the first request: routes times statuses would be hundreds that never count.

mod catalogue;
mod exposition;
mod preparing;
mod recorder;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use metrics::{counter, gauge, histogram};

use catalogue::*;

use crate::build_info;

pub use preparing::{Preparing, Stage};
pub use recorder::Metrics;

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

/// A connection was cut because its client took nothing of its answer.
pub(crate) fn stalled_reader() {
    counter!(STALLED_READERS.0).increment(1);
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
