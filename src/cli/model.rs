//! From the settings to an open checkpoint, for the subcommands that run a model.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use bytesize::ByteSize;
use paligemma_server::checkpoint::{
    Checkpoint, Placement, demo_mask_decoder, mask_decoder_in, open_mask_decoder,
};
use paligemma_server::engine::{EngineHandle, EngineOptions};
use paligemma_server::hub::{self, HubSettings};
use paligemma_server::models::{KvCache, MaskDecoder, PaliGemma};
use paligemma_server::pixels::{ImageLimits, Preprocessor};
use paligemma_server::settings::{Settings, SettingsError};

/// Tokens of prompt and answer that a slot has room for beside its image when nobody says.
const AUTO_TEXT_TOKENS: usize = 512;

/// The model that is built into this binary.
const DEMO: &str = "demo";

/// Where the model is.
#[derive(Debug, Clone)]
pub enum Source {
    /// In this binary.
    Demo,
    Folder(PathBuf),
}

impl Source {
    /// The demo, the folder that was named, or the hub's model, downloaded.
    pub async fn find(settings: &Settings) -> anyhow::Result<Self> {
        match settings.model.as_str() {
            DEMO => Ok(Self::Demo),
            _ => Ok(Self::Folder(folder(settings).await?)),
        }
    }

    /// Reads tens of megabytes of tokenizer.
    pub fn open(&self) -> anyhow::Result<Checkpoint> {
        Ok(match self {
            Self::Demo => Checkpoint::demo()?,
            Self::Folder(folder) => Checkpoint::open(folder)?,
        })
    }

    /// The decoder that was named, or else the model's own, if it has one.
    pub fn mask_decoder(&self, settings: &Settings) -> anyhow::Result<Option<MaskDecoder>> {
        Ok(match (settings.mask_decoder.as_str(), self) {
            ("", Self::Demo) => Some(demo_mask_decoder()?),
            ("", Self::Folder(folder)) => mask_decoder_in(folder)?,
            (file, _) => Some(open_mask_decoder(Path::new(file))?),
        })
    }
}

async fn folder(settings: &Settings) -> anyhow::Result<PathBuf> {
    let name = settings.model.as_str();
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    if path.exists() {
        bail!("--model {name} is a file; name the folder that holds config.json and the weights");
    }
    if !is_hub_id(name) {
        bail!("--model {name:?} is neither demo, a folder that exists nor a hub id (owner/name)");
    }
    hub::fetch(name, Some(&settings.revision), &HubSettings::from_env())
        .await
        .with_context(|| format!("no folder {name} here, and the hub's model can't be fetched"))
}

/// `owner/name`, and nothing that is meant as a path.
fn is_hub_id(name: &str) -> bool {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [owner, model] => !model.is_empty() && !owner.is_empty() && !owner.starts_with(['.', '~']),
        _ => false,
    }
}

/// What whoever uses the model should know of it, if there is something.
pub fn description(settings: &Settings) -> Option<&'static str> {
    (settings.model == DEMO).then_some(
        "the built-in demo: a tiny PaliGemma that was trained on drawn, coloured shapes and knows nothing of photos",
    )
}

/// The model's name in answers, and further names for it.
pub fn served_names(settings: &Settings) -> (String, Vec<String>) {
    match settings.served_model_name.split_first() {
        Some((name, aliases)) => (name.clone(), aliases.to_vec()),
        None => (own_name(&settings.model), Vec::new()),
    }
}

/// `demo`, a folder's name, or a hub id.
fn own_name(model: &str) -> String {
    if model == DEMO {
        return DEMO.to_owned();
    }
    let folder = Path::new(model).canonicalize().ok();
    let name = folder.as_deref().and_then(Path::file_name);
    name.map_or_else(
        || model.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Tokens that one slot holds.
///
/// # Errors
/// When the settings' number leaves no room beside this model's image, or is beyond its positions.
pub fn context(settings: &Settings, checkpoint: &Checkpoint) -> Result<usize, SettingsError> {
    let image = checkpoint.config.image_tokens();
    // The shortest prompt is <bos> and a newline, the shortest answer one token.
    let least = image + 3;
    let most = checkpoint.config.text.max_position_embeddings;
    let tokens = match settings.context {
        None => (image + AUTO_TEXT_TOKENS).min(most),
        Some(tokens) => tokens,
    };
    if (least..=most).contains(&tokens) {
        return Ok(tokens);
    }
    Err(SettingsError::ForModel {
        key: "context",
        value: tokens.to_string(),
        allowed: format!(
            "auto, or {least} (an image alone takes {image} tokens) to {most} (the model's positions)"
        ),
    })
}

/// An engine whose thread loads the model and then takes requests.
pub fn start_engine(
    checkpoint: Checkpoint,
    placement: Placement,
    options: EngineOptions,
) -> EngineHandle {
    let tokenizer = Arc::clone(&checkpoint.tokenizer);
    let image_tokens = checkpoint.config.image_tokens();
    let (slots, context) = (options.slots, options.context);
    EngineHandle::start(options, tokenizer, image_tokens, move || {
        load(&checkpoint, placement, slots, context)
    })
}

/// Runs on the engine's thread, to which a GPU's stream belongs.
fn load(
    checkpoint: &Checkpoint,
    placement: Placement,
    slots: usize,
    context: usize,
) -> Result<PaliGemma, Box<dyn Error>> {
    let begun = Instant::now();
    let device = placement.open_device()?;
    let model = checkpoint.load_model(&device, placement.format)?;
    let dtype = placement.format.activation_dtype();
    let kv_cache = KvCache::bytes(&checkpoint.config.text, slots, context, dtype);
    tracing::info!(
        seconds = begun.elapsed().as_secs_f32(),
        kv_cache = %ByteSize(kv_cache as u64),
        slots,
        context,
        "model loaded"
    );
    Ok(model)
}

/// Makes pictures ready for this model, within the settings' limits.
pub fn preprocessor(settings: &Settings, checkpoint: &Checkpoint) -> Preprocessor {
    let limits = ImageLimits {
        max_side: settings.max_image_side,
        max_pixels: settings.max_image_pixels,
    };
    let side = checkpoint.config.vision.image_size as u32;
    Preprocessor::new(side, limits, settings.decode_threads)
}
