//! The HTTP interface: requests in, answers, streams and problem documents out.
//!
//! [`router`](mod@router) lists all routes and the layers around them. A task's request is admitted
//! by [`middleware::admission`] and read by [`extract`]; its route in [`routes`] writes the prompts;
//! [`job`] prepares the images and submits everything to the engine; [`respond`] sends what the
//! task's parser makes of the output. Whatever fails on the way is a [`respond::error::ApiError`].
//! [`openai`] does the same for OpenAI's routes, and [`openapi`] describes all of it.

mod extract;
mod job;
mod middleware;
mod openai;
mod openapi;
mod readiness;
mod respond;
mod router;
mod routes;

use std::fmt::Display;
use std::sync::Arc;

use metrics_exporter_prometheus::{BuildError, PrometheusHandle};

use crate::engine::EngineHandle;
use crate::models::{MaskDecoder, Model};
use crate::pixels::Preprocessor;
use crate::runtime::{ModelInfo, Runtime};
use crate::settings::Settings;
use crate::telemetry::metrics;

pub use extract::image_url::ImageFetcher;
pub use middleware::admission::Admission;
pub use router::{document, router};

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
