//! paligemma-server: serves one PaliGemma over HTTP.
//!
//! Bytes come in over HTTP, become pixels and a prompt, wait in one bounded queue, share one
//! resident model step by step, and leave as tokens. Each module is one station on that way:
//!
//! | module | what happens there |
//! |---|---|
//! | [`api`] | HTTP requests become prompts about images, and what is generated their answers |
//! | [`tasks`] | what the model has to be asked, word for word |
//! | [`checkpoint`] | a hub id or folder becomes a configuration, weights and a tokenizer |
//! | [`pixels`] | image bytes become decoded, oriented, resized RGB pixels |
//! | [`models`] | SigLIP, the projector and Gemma on candle: pixels and token ids to logits |
//! | [`engine`] | the queue, the scheduler and the one thread that runs the model |
//!
//! Beside the way: [`settings`] is what an operator can set, [`server`] one server's life from
//! start to shutdown, [`telemetry`] what is logged and measured.

pub mod api;
pub mod checkpoint;
pub mod engine;
pub mod hub;
pub mod kernels;
pub mod layers;
pub mod models;
pub mod pixels;
pub mod runtime;
pub mod server;
pub mod settings;
pub mod tasks;
pub mod telemetry;
pub mod tokenizer;
