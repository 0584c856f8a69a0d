//! The catalogue: every metric's name and what it means.

/// Bucket bounds in seconds, for durations from a millisecond to minutes.
pub(super) const SECONDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];

/// Bucket bounds for numbers of sequences.
pub(super) const SEQUENCES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// A metric's name and what it means.
pub(super) type Metric = (&'static str, &'static str);

pub(super) const HTTP_REQUESTS: Metric = (
    "paligemma_http_requests_total",
    "Answered HTTP requests, by method, route and status.",
);
pub(super) const HTTP_SECONDS: Metric = (
    "paligemma_http_request_duration_seconds",
    "Time from an HTTP request to the end of its response (or stream), by method and route.",
);
pub(super) const QUEUE_LENGTH: Metric =
    ("paligemma_queue_length", "Generations waiting for a slot.");
pub(super) const QUEUE_CAPACITY: Metric = (
    "paligemma_queue_capacity",
    "Most generations that may wait for a slot; further ones are rejected.",
);
pub(super) const SLOTS_USED: Metric = (
    "paligemma_slots_used",
    "Sequences in the model: in the vision tower, in prefill or decoding.",
);
pub(super) const SLOTS: Metric = ("paligemma_slots", "Most sequences in the model at once.");
pub(super) const READY: Metric = (
    "paligemma_ready",
    "1 while the server takes requests, otherwise 0.",
);
pub(super) const QUEUE_SECONDS: Metric = (
    "paligemma_queue_seconds",
    "Time from a generation's submission to the first work on it.",
);
pub(super) const VISION_SECONDS: Metric = (
    "paligemma_vision_seconds",
    "Time from the first work on a generation to its image features, if they were not cached.",
);
pub(super) const PREFILL_SECONDS: Metric = (
    "paligemma_prefill_seconds",
    "Time from a generation's image features to its first token.",
);
pub(super) const DECODE_SECONDS: Metric = (
    "paligemma_decode_seconds",
    "Time from a generation's first token to its last.",
);
pub(super) const FIRST_TOKEN_SECONDS: Metric = (
    "paligemma_time_to_first_token_seconds",
    "Time from a generation's submission to its first token.",
);
pub(super) const INTER_TOKEN_SECONDS: Metric = (
    "paligemma_inter_token_seconds",
    "Time from one token of a generation to the next.",
);
pub(super) const STEP_SECONDS: Metric = (
    "paligemma_step_seconds",
    "Duration of one model step, with all its sequences.",
);
pub(super) const BATCH_SIZE: Metric = (
    "paligemma_decode_batch_size",
    "Sequences decoded together in one step.",
);
pub(super) const PREFILL_BATCH_SIZE: Metric = (
    "paligemma_prefill_batch_size",
    "Sequences prefilled together in one batch.",
);
pub(super) const IMAGE_TOKENS: Metric = ("paligemma_image_tokens_total", "Image tokens processed.");
pub(super) const PROMPT_TOKENS: Metric =
    ("paligemma_prompt_tokens_total", "Prompt tokens processed.");
pub(super) const COMPLETION_TOKENS: Metric =
    ("paligemma_completion_tokens_total", "Tokens generated.");
pub(super) const CACHE_HITS: Metric = (
    "paligemma_image_cache_hits_total",
    "Generations whose image features were cached or being computed for another generation.",
);
pub(super) const CACHE_MISSES: Metric = (
    "paligemma_image_cache_misses_total",
    "Images encoded by the vision tower.",
);
pub(super) const CACHE_BYTES: Metric = (
    "paligemma_image_cache_bytes",
    "Size of the cached image features.",
);
pub(super) const CACHE_CAPACITY: Metric = (
    "paligemma_image_cache_capacity_bytes",
    "Most bytes of cached image features.",
);
pub(super) const FINISHED: Metric = (
    "paligemma_generations_finished_total",
    "Finished generations, by reason.",
);
pub(super) const CANCELLED: Metric = (
    "paligemma_generations_cancelled_total",
    "Generations cancelled because the client disconnected, by stage.",
);
pub(super) const FAILED: Metric = (
    "paligemma_generations_failed_total",
    "Generations that failed, by reason.",
);
pub(super) const REJECTED: Metric = (
    "paligemma_generations_rejected_total",
    "Generations that were rejected, by reason.",
);

pub(super) const BUILD_INFO: Metric = (
    "paligemma_build_info",
    "Always 1. The version, its commit if the build recorded it, whether it was built with CUDA, and the processor's instructions in use.",
);
pub(super) const CONNECTIONS: Metric = (
    "paligemma_http_connections",
    "Open connections, idle ones included.",
);
pub(super) const STALLED_READERS: Metric = (
    "paligemma_http_stalled_readers_total",
    "Connections that were cut because their client took nothing of its answer for `write_timeout`.",
);
pub(super) const PREPARING: Metric = (
    "paligemma_preparing",
    "Requests before the queue, or their images, by stage.",
);
pub(super) const PREPARING_SECONDS: Metric = (
    "paligemma_preparing_seconds",
    "Time that a request, or one of its images, spent in a stage before the queue.",
);
pub(super) const ADAPTER_GENERATIONS: Metric = (
    "paligemma_adapter_generations_total",
    "Generations that were submitted, by the adapter that answers.",
);
pub(super) const NAMED_IMAGES: Metric = (
    "paligemma_named_images_total",
    "Images that requests named by their key instead of sending them, and whether they were here.",
);
pub(super) const KEY_REQUESTS: Metric = (
    "paligemma_key_requests_total",
    "Requests by the name of their API key, and whether its limits let them through.",
);
pub(super) const MODEL_LOAD_SECONDS: Metric = (
    "paligemma_model_load_seconds",
    "Duration of the model's last load; 0 before the first is done.",
);
pub(super) const MODEL_RESTARTS: Metric = (
    "paligemma_model_restarts_total",
    "Times the model failed and was loaded again.",
);

// Names by which routers, autoscalers and dashboards know other servers: vLLM's, and those of
// OpenTelemetry's conventions for generative AI.
pub(super) const VLLM_WAITING: Metric = (
    "vllm:num_requests_waiting",
    "paligemma_queue_length and all of paligemma_preparing together, under vLLM's name.",
);
pub(super) const VLLM_RUNNING: Metric = (
    "vllm:num_requests_running",
    "paligemma_slots_used under vLLM's name.",
);
pub(super) const VLLM_CACHE: Metric = (
    "vllm:kv_cache_usage_perc",
    "The share of slots in use, from 0 to 1, under vLLM's name.",
);
pub(super) const GEN_AI_REQUEST: Metric = (
    "gen_ai_server_request_duration_seconds",
    "Time from a generation's submission to its end, under OpenTelemetry's name.",
);
pub(super) const GEN_AI_FIRST_TOKEN: Metric = (
    "gen_ai_server_time_to_first_token_seconds",
    "paligemma_time_to_first_token_seconds under OpenTelemetry's name.",
);
pub(super) const GEN_AI_TOKEN: Metric = (
    "gen_ai_server_time_per_output_token_seconds",
    "A generation's mean time between tokens after the first, under OpenTelemetry's name.",
);

/// Counters without labels.
pub(super) const COUNTERS: [Metric; 7] = [
    STALLED_READERS,
    MODEL_RESTARTS,
    IMAGE_TOKENS,
    PROMPT_TOKENS,
    COMPLETION_TOKENS,
    CACHE_HITS,
    CACHE_MISSES,
];

/// Counters with one label, and all its values.
pub(super) const LABELLED_COUNTERS: [(Metric, &str, &[&str]); 4] = [
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

pub(super) const GAUGES: [Metric; 12] = [
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
pub(super) const HISTOGRAMS: [(Metric, &[f64]); 12] = [
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
