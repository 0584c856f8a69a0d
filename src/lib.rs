//! paligemma-server: serves one PaliGemma over HTTP.
//!
//! Bytes come in over HTTP, become pixels and a prompt, wait in one bounded queue, share one
//! resident model step by step, and leave as tokens. Each module is one station on that way:
//!
//! | module | what happens there |
//! |---|---|
//! | [`server`] | one server's life from start to shutdown |
//! | [`api`] | HTTP requests become prompts about images, and what is generated becomes answers |
//! | [`tasks`] | a task's prompt, word for word, and the parser of its answer |
//! | [`pixels`] | image bytes become decoded, oriented, resized RGB pixels |
//! | [`engine`] | the queue, the scheduler and the one thread that runs the model |
//! | [`models`] | SigLIP, the projector and Gemma: pixels and token ids to logits |
//! | [`layers`] | what models are made of, over packed rows |
//! | [`kernels`] | what multiplies and computes, by the device and the processor |
//!
//! Beside the way: [`settings`] is what an operator can set, [`runtime`] makes of it all that runs a
//! model, [`hub`] downloads a checkpoint through an
//! [`http_client`], [`checkpoint`] reads its files, [`tokenizer`] turns text
//! into ids and back, [`telemetry`] logs and measures, [`build_info`] says what was built.
//! `docs/architecture.md` has the reasons.

pub mod api;
pub mod build_info;
pub mod checkpoint;
pub mod engine;
pub mod http_client;
pub mod hub;
pub mod layers;
pub mod models;
pub mod pixels;
pub mod runtime;
pub mod server;
pub mod settings;
pub mod tasks;
pub mod telemetry;
pub mod tokenizer;

pub use paligemma_kernels as kernels;
