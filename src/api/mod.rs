//! The HTTP interface: requests in, answers, streams and problem documents out.
//!
//! A task's request is let in by [`admission`] and read by [`body`] (JSON or a form, one
//! [`body::Submission`]), its route in [`routes`] words the prompts, [`job`] makes its images ready and submits it, and [`answer`] or
//! [`stream`] sends what the task's [`reader`] makes of what the engine generates. Whatever fails on the way is an [`error::ApiError`],
//! which [`problem`] writes. Around all routes lie [`observe`], [`linger`] and [`auth`].

mod admission;
mod answer;
mod auth;
mod availability;
mod body;
pub mod error;
mod fields;
mod form_value;
mod image_source;
mod image_url;
mod job;
mod json_object;
mod linger;
mod objects;
mod observe;
mod one_or_several;
mod openai;
pub mod openapi;
mod options;
mod problem;
mod reader;
mod region;
mod request_id;
mod response;
mod router;
mod routes;
mod stream;

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;

use crate::engine::EngineHandle;
use crate::models::MaskDecoder;
use crate::pixels::Preprocessor;
use crate::settings::Settings;

pub use admission::Admission;
pub use image_url::ImageFetcher;
pub use router::router;

/// What the routes share.
#[derive(Clone)]
pub struct AppState {
    pub engine: EngineHandle,
    pub admission: Admission,
    pub preprocessor: Preprocessor,
    pub fetcher: ImageFetcher,
    /// None: this server does not segment.
    pub mask_decoder: Option<Arc<MaskDecoder>>,
    pub model: Arc<ModelInfo>,
    pub settings: Arc<Settings>,
    pub metrics: PrometheusHandle,
}

impl ModelInfo {
    /// Every name of the model, the first being the one that answers bear.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = std::iter::once(&self.name).chain(&self.aliases);
        names.map(String::as_str)
    }
}

/// What clients may know about the model.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// The name under which it is served, and which answers bear.
    pub name: String,
    /// Further names under which it may be asked for.
    pub aliases: Vec<String>,
    /// What to know before using it, if there is something.
    pub description: Option<&'static str>,
    /// Width and height, in pixels, to which every image is resized.
    pub image_size: u32,
    /// Tokens that stand for one image.
    pub image_tokens: usize,
    /// Tokens that image, prompt and answer may have together.
    pub context: usize,
    /// What the weights are held in, such as `bf16`.
    pub dtype: String,
    /// Where the model runs, such as `cpu` or `cuda:0`.
    pub device: String,
    /// When the server started: seconds since 1970-01-01 00:00 UTC.
    pub created: u64,
}
