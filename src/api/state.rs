//! What the routes share.

use std::fmt::Display;
use std::sync::Arc;

use metrics_exporter_prometheus::BuildError;

use super::admission::Admission;
use super::error::{ApiError, ErrorCode};
use super::image_fetcher::{ImageFetcher, LabelStudioFiles};
use super::kept_images::KeptImages;
use super::keys::{KeyFileError, Keys};
use super::readiness::Leaving;
use super::uploads::Uploads;
use crate::engine::{Answerer, EngineHandle, Neighbours};
use crate::models::{MaskDecoder, Model};
use crate::pixels::Preprocessor;
use crate::runtime::{AdapterLoader, ModelInfo, Runtime};
use crate::settings::Settings;
use crate::tasks::detection::bins;
use crate::telemetry::load_progress::LoadProgress;
use crate::telemetry::metrics::{self, Metrics};
use crate::telemetry::traces::{Traces, TracesError};

/// Why the routes can't be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    #[error("the metrics can't be set up: {0}")]
    Metrics(#[from] BuildError),
    #[error(transparent)]
    Traces(#[from] TracesError),
}

/// What the routes share.
#[derive(Clone)]
pub struct AppState {
    pub engine: EngineHandle,
    pub keys: Keys,
    /// Of those who may load adapters.
    pub admin_keys: Keys,
    pub admission: Admission,
    pub uploads: Uploads,
    pub preprocessor: Preprocessor,
    pub fetcher: ImageFetcher,
    /// None: it is not said where Label Studio is.
    pub label_studio: Option<LabelStudioFiles>,
    pub kept_images: KeptImages,
    /// None: this server does not segment.
    pub mask_decoder: Option<Arc<MaskDecoder>>,
    pub model: Arc<ModelInfo>,
    pub adapters: AdapterLoader,
    pub loading: LoadProgress,
    pub leaving: Leaving,
    /// The model's tokens of bins, if it has them all.
    pub bins: Option<Neighbours>,
    pub settings: Arc<Settings>,
    pub metrics: Metrics,
    pub traces: Traces,
}

impl AppState {
    /// Starts the engine of `runtime`, and sets up metrics and traces before it.
    ///
    /// # Errors
    /// When the keys can't be read, traces can't be exported, or something else in this process set up
    /// metrics before.
    pub fn start<F, M, E>(runtime: Runtime<F>) -> Result<Self, StartError>
    where
        M: Model,
        E: Display,
        F: Fn() -> Result<M, E> + Send + 'static,
    {
        let settings = runtime.settings.clone();
        let options = runtime.engine_options();
        let recorder = Metrics::install()?;
        metrics::build(runtime.info.instructions.as_deref());
        Ok(Self {
            metrics: recorder,
            traces: Traces::start(&settings)?,
            preprocessor: runtime.preprocessor.clone(),
            fetcher: ImageFetcher::new(&settings),
            label_studio: LabelStudioFiles::new(&settings),
            kept_images: KeptImages::new(
                settings.kept_images.as_u64(),
                runtime.preprocessor.side(),
            ),
            mask_decoder: runtime.mask_decoder.clone(),
            keys: Keys::new(&settings)?,
            admin_keys: Keys::of_admin(&settings)?,
            admission: Admission::new(runtime.info.slots, settings.queue),
            uploads: Uploads::new(&settings),
            model: Arc::new(runtime.info.clone()),
            bins: bins(&runtime.tokenizer),
            adapters: runtime.adapters.clone(),
            loading: runtime.loading.clone(),
            leaving: Leaving::default(),
            engine: runtime.start_engine(options),
            settings,
        })
    }

    /// What answers a request for `model`: the name that its answers bear, and the adapter if it is one's.
    ///
    /// # Errors
    /// When there is no such model.
    pub fn answerer(&self, model: Option<&str>) -> Result<(String, Option<Answerer>), ApiError> {
        let base = || (self.model.name.clone(), None);
        let Some(asked) = model else {
            return Ok(base());
        };
        if self.model.names().any(|name| name == asked) {
            return Ok(base());
        }
        match self.adapters.list.get(asked) {
            Some(resident) => Ok((resident.name.clone(), Some(Answerer::from(&resident)))),
            None => Err(self.no_model(asked)),
        }
    }

    /// That there is no model of that name.
    pub fn no_model(&self, asked: &str) -> ApiError {
        let shown: String = asked.chars().take(128).collect();
        let adapters = self.adapters.list.all();
        let others = adapters.iter().map(|it| format!(", `{}`", it.name));
        let served = format!("`{}`{}", self.model.name, others.collect::<String>());
        let detail = match adapters.is_empty() {
            true => format!("there is no model `{shown}`; the one that is served is {served}"),
            false => format!("there is no model `{shown}`; those that are served are {served}"),
        };
        ApiError::new(ErrorCode::ModelNotFound, detail).param("model")
    }
}
