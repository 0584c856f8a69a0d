//! `serve`: a model over HTTP.

use std::io::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use paligemma_server::api::{self, Admission, AppState, ImageFetcher, ModelInfo};
use paligemma_server::checkpoint::{Checkpoint, Placement};
use paligemma_server::engine::EngineOptions;
use paligemma_server::models::MaskDecoder;
use paligemma_server::server::{self, Signals};
use paligemma_server::settings::Settings;
use paligemma_server::telemetry::{logging, metrics};
use tokio::net::TcpListener;

use super::flags::SettingsFlags;
use super::model::{self, Source};
use super::threads;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsFlags,
}

/// Serves until a signal comes; fails when the model can't be loaded or breaks down.
pub fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.settings.load()?;
    threads::set(&settings);
    logging::init(settings.log_format, &settings.log_level)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(serve(settings));
    // Images that are being decoded or a model that is loading must not hold the process.
    runtime.shutdown_background();
    outcome
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let placement = Placement::resolve(settings.device, settings.dtype)?;
    // Before the model is fetched, so that a port in use is known at once.
    let listener = bind(&settings).await?;
    let (checkpoint, mask_decoder) = tokio::select! {
        opened = open(&settings) => opened?,
        name = signals.next() => {
            tracing::info!(signal = name, "ended before the model was there");
            return Ok(());
        }
    };
    let options = EngineOptions {
        slots: settings.slots,
        queue: settings.queue,
        context: model::context(&settings, &checkpoint)?,
        prefill_tokens_per_step: settings.prefill_tokens_per_step,
        image_cache_bytes: settings.image_cache.as_u64() as usize,
    };
    let info = info(&settings, &checkpoint, placement, options.context);
    tracing::info!(
        model = info.name,
        dtype = info.dtype,
        device = info.device,
        "loading"
    );
    if let Some(description) = info.description {
        tracing::info!("this is {description}; --model takes another");
    }
    let state = AppState {
        metrics: metrics::install()?,
        preprocessor: model::preprocessor(&settings, &checkpoint),
        fetcher: ImageFetcher::new(&settings),
        mask_decoder: mask_decoder.map(Arc::new),
        admission: Admission::new(&settings),
        model: Arc::new(info),
        engine: model::start_engine(checkpoint, placement, options),
        settings: Arc::new(settings),
    };
    let address = listener.local_addr()?;
    tracing::info!("listening on http://{address}");
    match state.settings.api_keys.len() {
        0 => tracing::info!("/v1 needs no key: whoever reaches this address may use it"),
        keys => tracing::info!(keys, "/v1 needs a key"),
    }
    // For whoever started it with port 0; the log may be JSON or off.
    // Whoever closed stdout doesn't want to know.
    let _ = writeln!(std::io::stdout(), "http://{address}");
    let (engine, grace) = (state.engine.clone(), state.settings.shutdown_grace);
    server::serve(listener, api::router(state), engine, &mut signals, grace).await?;
    tracing::info!("ended");
    Ok(())
}

async fn bind(settings: &Settings) -> anyhow::Result<TcpListener> {
    let Settings { host, port, .. } = settings;
    TcpListener::bind((host.as_str(), *port))
        .await
        .with_context(|| format!("can't listen on {host}:{port}; set --host and --port to an address of this machine that is free"))
}

async fn open(settings: &Settings) -> anyhow::Result<(Checkpoint, Option<MaskDecoder>)> {
    let source = Source::find(settings).await?;
    let settings = settings.clone();
    // Reads large files: not on a thread that has signals to hear.
    let work = move || anyhow::Ok((source.open()?, source.mask_decoder(&settings)?));
    tokio::task::spawn_blocking(work).await?
}

/// What `/v1/models` and the log say about the model.
fn info(
    settings: &Settings,
    checkpoint: &Checkpoint,
    placement: Placement,
    context: usize,
) -> ModelInfo {
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (name, aliases) = model::served_names(settings);
    ModelInfo {
        name,
        aliases,
        description: model::description(settings),
        image_size: checkpoint.config.vision.image_size as u32,
        image_tokens: checkpoint.config.image_tokens(),
        context,
        dtype: placement.format.to_string(),
        device: placement
            .gpu
            .map_or("cpu".to_owned(), |gpu| format!("cuda:{gpu}")),
        created: seconds,
    }
}
