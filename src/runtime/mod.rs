//! From the settings to everything that runs a model: the tokenizer, the preprocessor, the mask
//! decoder, and a factory of the model itself. Every subcommand starts from a [`Runtime`].

mod adapters;
mod automatic;
mod info;
mod memory;
mod source;
mod warm_up;

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytesize::ByteSize;
use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::adapter::AdapterError;
use crate::engine::{EngineHandle, EngineOptions};
use crate::hub::HubError;
use crate::kernels::{
    GraphChoice, Instructions, Placement, PlacementError, UnusableInstructions,
    choose_instructions, reason,
};
use crate::models::{MaskDecoder, Model, PaliGemma, Pretrained};
use crate::pixels::{ImageLimits, Preprocessor};
use crate::settings::{Settings, SettingsError};
use crate::telemetry::load_progress::LoadProgress;
use crate::tokenizer::Tokenizer;

pub use adapters::AdapterLoader;
use adapters::check_adapter;
pub use info::{ModelInfo, served_names};
pub use memory::DoesNotFit;
use memory::Sizes;
use source::Source;
use warm_up::WarmUp;

/// An opened checkpoint and all that goes with it. Its weights are read by `factory`, which can be
/// called again after a failure, and only on the thread that will run the model: a GPU's stream
/// belongs to a thread.
pub struct Runtime<F> {
    pub settings: Arc<Settings>,
    pub info: ModelInfo,
    pub tokenizer: Arc<Tokenizer>,
    pub preprocessor: Preprocessor,
    /// None: this model can't draw masks.
    pub mask_decoder: Option<Arc<MaskDecoder>>,
    /// What requests may ask for beside the model.
    pub adapters: AdapterLoader,
    /// How far `factory` has come.
    pub loading: LoadProgress,
    placement: Placement,
    factory: F,
}

/// Why there is no runtime.
#[derive(Debug, Error)]
pub enum RuntimeError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error(transparent)]
    Instructions(#[from] UnusableInstructions),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(
        "{flag} {name} is a file; name the folder that holds its configuration and the weights"
    )]
    IsFile { flag: &'static str, name: String },
    #[error("{flag} {name:?} is neither demo, a folder that exists nor a hub id (owner/name)")]
    NotFound { flag: &'static str, name: String },
    #[error("no folder {name} here, and the hub's model can't be fetched: {error}")]
    Hub { name: String, error: Box<HubError> },
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
    #[error("the GPU does not tell its memory: {0}")]
    Card(String),
    #[error("reading the checkpoint was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl RuntimeError {
    /// Whether the operator's settings are wrong, rather than what they lead to.
    pub fn is_of_settings(&self) -> bool {
        matches!(
            self,
            Self::Settings(_) | Self::Placement(_) | Self::Instructions(_) | Self::DoesNotFit(_)
        )
    }
}

impl Runtime<()> {
    /// Finds the model, downloading it if need be, and opens all of it but the weights.
    ///
    /// # Errors
    /// When the settings don't fit the machine or the model, or the checkpoint is missing or damaged.
    pub async fn load(
        settings: &Settings,
    ) -> Result<
        Runtime<impl Fn() -> Result<PaliGemma, CheckpointError> + Send + 'static>,
        RuntimeError,
    > {
        settings.check_admin()?;
        let placement = Placement::resolve(settings.device, settings.dtype)?;
        let instructions = choose_instructions(&placement, settings.cpu_instructions)?;
        let source = Source::find(settings).await?;
        let merged = match settings.merge_adapter.as_str() {
            "" => None,
            name => Some(source::adapter(name, "--merge-adapter").await?),
        };
        let mut adapters = Vec::new();
        for (name, from) in &settings.adapter {
            adapters.push((name.clone(), source::adapter(from, "--adapter").await?));
        }
        source.mention_adapter(merged.iter().chain(adapters.iter().map(|(_, it)| it)));
        let settings = Arc::new(settings.clone());
        let for_masks = settings.clone();
        // Reads large files: not on a thread that has signals to hear.
        let open = move || {
            let masks = source.mask_decoder(&for_masks)?;
            let pretrained = match merged {
                Some(adapter) => source.open()?.merge(adapter)?,
                None => source.open()?,
            };
            for (name, adapter) in adapters {
                check_adapter(&for_masks, &name, &adapter)?;
                pretrained.add_adapter(&name, adapter)?;
            }
            Ok::<_, RuntimeError>((pretrained, masks))
        };
        let (mut pretrained, mask_decoder) = tokio::task::spawn_blocking(open).await??;
        pretrained.weights_cache = weights_cache(&settings, instructions);
        let context = automatic::context(&settings, &pretrained)?;
        let resident = pretrained.adapters.all();
        let adapters = resident
            .iter()
            .map(|it| it.adapter.values(&pretrained.weights));
        let batch_tokens = automatic::batch_tokens(&settings, placement);
        let sizes = Sizes {
            config: &pretrained.config,
            weights: pretrained.weights.values(),
            adapters: adapters.sum::<usize>() as u64,
            adapts: settings.adapter_admin || !resident.is_empty(),
            records: settings.cuda_graphs != GraphChoice::Off,
            context,
            batch_tokens,
            image_cache: settings.image_cache.as_u64(),
        };
        let slots = memory::slots(placement, &sizes, settings.slots)?;
        let warm_up = WarmUp {
            slots,
            context,
            batch_tokens,
            image_size: pretrained.config.vision.image_size,
        };
        let info = ModelInfo::new(
            &settings,
            &pretrained.config,
            placement,
            instructions,
            context,
            slots,
            mask_decoder.is_some(),
        );
        Ok(Runtime {
            tokenizer: Arc::clone(&pretrained.tokenizer),
            preprocessor: preprocessor(&settings, placement, info.image_size),
            mask_decoder: mask_decoder.map(Arc::new),
            loading: pretrained.weights.progress.clone(),
            adapters: AdapterLoader {
                list: pretrained.adapters.clone(),
                weights: pretrained.weights.clone(),
                settings: Arc::clone(&settings),
            },
            factory: factory(
                pretrained,
                placement,
                settings.cuda_graphs,
                warm_up,
                info.clone(),
            ),
            info,
            placement,
            settings,
        })
    }
}

impl<F> Runtime<F> {
    /// The same with another model, which has `image_tokens` tokens an image.
    pub fn with_factory<G>(self, image_tokens: usize, factory: G) -> Runtime<G> {
        Runtime {
            settings: self.settings,
            info: ModelInfo {
                image_tokens,
                ..self.info
            },
            tokenizer: self.tokenizer,
            preprocessor: self.preprocessor,
            mask_decoder: self.mask_decoder,
            loading: self.loading,
            adapters: self.adapters,
            placement: self.placement,
            factory,
        }
    }

    /// An engine as the settings want it.
    pub fn engine_options(&self) -> EngineOptions {
        let settings = &self.settings;
        EngineOptions {
            slots: self.info.slots,
            queue: settings.queue,
            context: self.info.context,
            max_token_gap: automatic::token_gap(settings, self.placement),
            prefill_batch_tokens: automatic::batch_tokens(settings, self.placement),
            image_cache_bytes: usize::try_from(settings.image_cache.as_u64()).unwrap_or(usize::MAX),
            model_restarts: settings.model_restarts,
            step_timeout: settings.step_timeout,
        }
    }

    /// Starts an engine, whose thread loads the model and then takes requests.
    pub fn start_engine<M, E>(self, options: EngineOptions) -> EngineHandle
    where
        M: Model,
        E: Display,
        F: Fn() -> Result<M, E> + Send + 'static,
    {
        EngineHandle::start(options, self.tokenizer, self.factory)
    }
}

/// Loads the model; called on the engine's thread.
fn factory(
    pretrained: Pretrained,
    placement: Placement,
    graphs: GraphChoice,
    warm_up: WarmUp,
    info: ModelInfo,
) -> impl Fn() -> Result<PaliGemma, CheckpointError> + Send + 'static {
    move || {
        let began = Instant::now();
        tracing::info!(
            model = info.name,
            path = %pretrained.path.display(),
            size = %ByteSize(pretrained.weights.bytes()),
            stored_as = pretrained.weights.formats(),
            dtype = info.dtype,
            device = info.device,
            instructions = info.instructions,
            "loading"
        );
        let device = placement
            .open_device(graphs)
            .map_err(|error| CheckpointError::Weights(error.to_string()))?;
        let mut model = pretrained.load(&device, placement.format)?;
        if placement.gpu.is_some() {
            let adapter = pretrained.adapters.all().first().map(|it| it.id);
            warm_up
                .run(&model, adapter)
                .map_err(|error| CheckpointError::Weights(reason(&error)))?;
        }
        // After the warm-up, whose steps are not worth keeping.
        model
            .record_steps(graphs)
            .map_err(|error| CheckpointError::Weights(reason(&error)))?;
        let dtype = placement.format.activation_dtype();
        let cache = pretrained.config.text.cache_shape(info.slots, info.context);
        tracing::info!(
            seconds = began.elapsed().as_secs_f32(),
            kv_cache = %ByteSize(cache.bytes(dtype) as u64),
            slots = info.slots,
            context = info.context,
            "model loaded"
        );
        Ok(model)
    }
}

/// The folder of packed weights, if there is one and something is packed.
fn weights_cache(settings: &Settings, instructions: Option<Instructions>) -> Option<PathBuf> {
    let folder = &settings.weights_cache;
    if folder.as_os_str().is_empty() {
        return None;
    }
    if instructions.is_none() {
        tracing::warn!(
            folder = %folder.display(),
            "weights_cache has no effect: only our own kernels for x86-64 processors pack weights"
        );
        return None;
    }
    Some(folder.clone())
}

/// Makes pictures ready for this model, within the settings' limits.
fn preprocessor(settings: &Settings, placement: Placement, image_size: u32) -> Preprocessor {
    let limits = ImageLimits {
        max_side: settings.max_image_side,
        max_pixels: settings.max_image_pixels,
        memory: settings.decode_memory.as_u64(),
    };
    let threads = automatic::decode_threads(settings, placement);
    Preprocessor::new(image_size, limits, threads)
}
