//! `serve`: a model over HTTP.

use std::io::Write as _;

use anyhow::Context as _;
use paligemma_server::runtime::Runtime;
use paligemma_server::server::{self, Shutdown};
use paligemma_server::settings::Settings;
use paligemma_server::telemetry::logging;
use tokio::net::TcpListener;

use super::flags::SettingsFlags;
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
    let mut shutdown = Shutdown::on_signals()?;
    // Before the model is fetched, so that a port in use is known at once.
    let listener = bind(&settings).await?;
    let runtime = tokio::select! {
        runtime = Runtime::load(&settings) => runtime?,
        name = shutdown.next() => {
            tracing::info!(signal = name, "ended before the model was there");
            return Ok(());
        }
    };
    let info = &runtime.info;
    tracing::info!(
        model = info.name,
        dtype = info.dtype,
        device = info.device,
        "loading"
    );
    if let Some(description) = info.description {
        tracing::info!("this is {description}; --model takes another");
    }
    let address = listener.local_addr()?;
    tracing::info!("listening on http://{address}");
    match settings.api_keys.len() {
        0 => tracing::info!("/v1 needs no key: whoever reaches this address may use it"),
        keys => tracing::info!(keys, "/v1 needs a key"),
    }
    // For whoever started it with port 0; the log may be JSON or off.
    // Whoever closed stdout doesn't want to know.
    let _ = writeln!(std::io::stdout(), "http://{address}");
    server::run(listener, runtime, &mut shutdown).await?;
    tracing::info!("ended");
    Ok(())
}

async fn bind(settings: &Settings) -> anyhow::Result<TcpListener> {
    let Settings { host, port, .. } = settings;
    TcpListener::bind((host.as_str(), *port))
        .await
        .with_context(|| format!("can't listen on {host}:{port}; set --host and --port to an address of this machine that is free"))
}
