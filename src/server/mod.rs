//! One server's life: it serves until a signal or the engine's end, then leaves in good order.

mod connections;
mod descriptors;
mod reload;
mod shutdown;
mod tls;

use std::fmt::Display;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::connections::Limits;
use crate::api::{self, AppState, StartError};
use crate::engine::{EngineHandle, State};
use crate::models::Model;
use crate::runtime::Runtime;
use crate::settings::Settings;

pub use shutdown::{Shutdown, Trigger};
pub use tls::{Tls, TlsError};

/// How long answers that are complete may take to reach their clients before connections are cut, and
/// after that the last traces to reach their collector.
const FLUSH: Duration = Duration::from_secs(5);

/// How long health checks may take to reach their clients when the model has been fetched.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Why a server ended otherwise than in good order.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The model couldn't be loaded.
    #[error("{0}")]
    Load(String),
    /// The model failed while it served, and restarting it didn't help.
    #[error("{0}")]
    Model(String),
    /// It could not begin.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its certificate or key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its socket can't be used.
    #[error("the listening socket can't be used: {0}")]
    Socket(#[from] std::io::Error),
    /// A second signal came before everything had ended.
    #[error("{0} came again: ended at once, with requests cut off")]
    Hurried(&'static str),
}

/// Serves `runtime`'s model on `listener` until `shutdown` asks for the end or the engine fails.
///
/// At the first request to shut down, readiness turns off. After `shutdown_delay` the engine stops admitting,
/// and what runs goes on for up to `shutdown_grace`. Connections are still accepted meanwhile, so
/// that health checks and new requests get their 503.
///
/// # Errors
/// When the engine failed (every request has been told by then), or `shutdown` asked twice.
pub async fn run<F, M, E>(
    listener: TcpListener,
    runtime: Runtime<F>,
    shutdown: &mut Shutdown,
) -> Result<(), ServerError>
where
    M: Model,
    E: Display,
    F: Fn() -> Result<M, E> + Send + 'static,
{
    serve(listener, AppState::start(runtime)?, shutdown).await
}

/// The same with an engine that has been started.
///
/// # Errors
/// As [`run`].
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    shutdown: &mut Shutdown,
) -> Result<(), ServerError> {
    let (engine, settings) = (state.engine.clone(), state.settings.clone());
    let (traces, leaving) = (state.traces.clone(), state.leaving.clone());
    match state.keys.count() {
        0 if state.keys.are_needed() => tracing::warn!("/v1 needs a key, and there is none"),
        0 => tracing::info!("/v1 needs no key: everyone who can reach this address may use it"),
        keys => tracing::info!(keys, "/v1 needs a key"),
    }
    let tls = Tls::of(&settings)?;
    let reloading = tokio::spawn(reload::on_hangup(state.keys.clone(), tls.clone()));
    let (delay, grace) = (settings.shutdown_delay, settings.shutdown_grace);
    let router = api::router(state);
    let close = CancellationToken::new();
    let limits = limits(&settings);
    // Ends by itself only when it is told to.
    let serving = connections::serve(listener, tls, router, limits, close.clone());
    let serving = tokio::spawn(serving);

    let outcome = tokio::select! {
        name = shutdown.next() => {
            // Before it is logged: who waits for the line finds readiness off.
            leaving.begin();
            tracing::info!(signal = name, ?delay, ?grace, "shutting down; a second signal ends at once");
            Ok(())
        }
        reason = failure(&engine) => Err(match engine.was_loaded() {
            true => ServerError::Model(reason),
            false => ServerError::Load(reason),
        }),
    };
    let leave = async {
        reloading.abort();
        if outcome.is_ok() {
            tokio::time::sleep(delay).await;
            engine.shutdown(grace).await;
        }
        close.cancel();
        if timeout(FLUSH, serving).await.is_err() {
            tracing::warn!("cut connections that did not take their answer within {FLUSH:?}");
        }
        traces.finish(FLUSH).await;
    };
    tokio::select! {
        () = leave => outcome,
        name = shutdown.next() => Err(ServerError::Hurried(name)),
    }
}

/// Answers health checks on `listener` while `work` fetches the model, so that an orchestrator sees that the
/// process is alive; everything else gets 503.
///
/// # Errors
/// When the certificate or the socket can't be used.
pub async fn meanwhile<T>(
    listener: TcpListener,
    settings: &Settings,
    work: impl Future<Output = T>,
) -> Result<(TcpListener, T), ServerError> {
    // The same socket: who connects in between is answered after all.
    let listener = listener.into_std()?;
    let close = CancellationToken::new();
    let serving = tokio::spawn(connections::serve(
        TcpListener::from_std(listener.try_clone()?)?,
        Tls::of(settings)?,
        api::fetching(),
        limits(settings),
        close.clone(),
    ));
    let _closing = close.clone().drop_guard();
    let done = work.await;
    close.cancel();
    // Who says nothing by then is left to the time limit of silent connections.
    let _ = timeout(LAST_ANSWERS, serving).await;
    Ok((TcpListener::from_std(listener)?, done))
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        connections: descriptors::connections(settings.max_connections),
        idle: settings.idle_timeout,
        write: settings.write_timeout,
    }
}

/// Why the engine failed, once it has.
async fn failure(engine: &EngineHandle) -> String {
    let mut states = engine.watch_state();
    loop {
        if let State::Failed(reason) = &*states.borrow_and_update() {
            return reason.clone();
        }
        if states.changed().await.is_err() {
            return "the engine's thread has ended".to_owned();
        }
    }
}
