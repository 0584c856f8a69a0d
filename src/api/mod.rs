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

use std::fmt::Display;
use std::sync::Arc;

use metrics_exporter_prometheus::{BuildError, PrometheusHandle};

use crate::engine::EngineHandle;
use crate::models::{MaskDecoder, Model};
use crate::pixels::Preprocessor;
use crate::runtime::{ModelInfo, Runtime};
use crate::settings::Settings;
use crate::telemetry::metrics;

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

impl AppState {
    /// Starts the engine of `runtime`, and sets up the metrics before it.
    ///
    /// # Errors
    /// When something else in this process set up metrics before.
    pub fn start<F, M, E>(runtime: Runtime<F>) -> Result<Self, BuildError>
    where
        M: Model,
        E: Display,
        F: Fn() -> Result<M, E> + Send + 'static,
    {
        let settings = runtime.settings.clone();
        let options = runtime.engine_options();
        Ok(Self {
            metrics: metrics::install()?,
            preprocessor: runtime.preprocessor.clone(),
            fetcher: ImageFetcher::new(&settings),
            mask_decoder: runtime.mask_decoder.clone(),
            admission: Admission::new(&settings),
            model: Arc::new(runtime.info.clone()),
            engine: runtime.start_engine(options),
            settings,
        })
    }
}
