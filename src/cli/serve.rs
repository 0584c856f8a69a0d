//! `serve`: serves a model over HTTP.

use std::io::Write as _;

use anyhow::Context as _;
use paligemma_server::runtime::Runtime;
use paligemma_server::server::{self, Shutdown, Tls};
use paligemma_server::settings::Settings;
use paligemma_server::telemetry::logging;
use tokio::net::TcpListener;

use super::flags::SettingsFlags;
use super::threads;

const EXAMPLES: &str = "\
Examples:
  # The built-in demo, at http://localhost:8080.
  paligemma-server serve

  # A fine-tune in a folder, for this machine alone, on another port.
  paligemma-server serve --model ./my-fine-tune --port 9000

  # A gated model of the hub, for the whole network, with a key. The token is in HF_TOKEN.
  PALIGEMMA_API_KEYS=secret paligemma-server serve --model google/paligemma2-3b-mix-224 --host 0.0.0.0

  # Settings from a file; flags override it.
  paligemma-server serve --config server.toml --slots 16";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsFlags,
}

/// Serves until a signal arrives. Fails when the model can't be loaded or fails for good.
pub fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.settings.load()?;
    threads::set(&settings);
    logging::init(settings.log_format, &settings.log_level)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(serve(settings));
    // Don't wait for images that are being decoded or for a model that is loading.
    runtime.shutdown_background();
    outcome
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::on_signals()?;
    // A certificate that can't be used is said before the model is loaded.
    Tls::of(&settings)?;
    // Bind before fetching the model, so that a port in use is reported at once.
    let listener = bind(&settings).await?;
    let fetching = server::meanwhile(listener, &settings, Runtime::load(&settings));
    let (listener, runtime) = tokio::select! {
        fetched = fetching => {
            let (listener, runtime) = fetched?;
            (listener, runtime?)
        }
        name = shutdown.next() => {
            tracing::info!(signal = name, "stopped before the model was loaded");
            return Ok(());
        }
    };
    let info = &runtime.info;
    if let Some(description) = info.description {
        tracing::info!("this is {description}; --model selects another");
    }
    let address = listener.local_addr()?;
    let scheme = match settings.tls_cert.as_os_str().is_empty() {
        true => "http",
        false => "https",
    };
    tracing::info!("listening on {scheme}://{address}");
    // The address on stdout tells a caller that passed port 0, even when the log is JSON or off.
    // Ignore errors: a caller that closed stdout doesn't need it.
    let _ = writeln!(std::io::stdout(), "{scheme}://{address}");
    server::run(listener, runtime, &mut shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}

async fn bind(settings: &Settings) -> anyhow::Result<TcpListener> {
    let Settings { host, port, .. } = settings;
    TcpListener::bind((host.as_str(), *port))
        .await
        .with_context(|| format!("can't listen on {host}:{port}; set --host and --port to a free address of this machine"))
}
