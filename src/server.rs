//! One server's life: it serves until a signal or the engine's end, then leaves in good order.

use std::future::IntoFuture;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::engine::{EngineHandle, State};

/// How long answers that are complete may take to reach their clients before connections are cut.
const FLUSH: Duration = Duration::from_secs(5);

/// Why a server ended otherwise than in good order.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The engine couldn't load the model, or failed while it ran.
    #[error("{0}")]
    Engine(String),
    /// A second signal came before everything had ended.
    #[error("{0} came again: ended at once, with requests cut off")]
    Hurried(&'static str),
}

/// SIGINT and SIGTERM, heard from the moment this is made.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// # Errors
    /// When the operating system refuses a handler.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next signal's name. Dropping the future loses no signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Serves `router` on `listener` until a signal comes or the engine fails.
///
/// On the first signal the engine stops admitting, which also turns readiness off, and what runs
/// goes on for up to `grace`. Connections are still accepted meanwhile, so that health checks and
/// new requests get their 503.
///
/// # Errors
/// When the engine failed (every request has been told by then), or a second signal came.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    engine: EngineHandle,
    signals: &mut Signals,
    grace: Duration,
) -> Result<(), ServerError> {
    let close = CancellationToken::new();
    let closed = close.clone().cancelled_owned();
    // Each event of a stream is a packet of its own: waiting to fill one would hold tokens back.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!("a connection keeps Nagle's algorithm: {error}");
        }
    });
    // Never ends by itself: axum tries again when accepting a connection fails.
    let serving = tokio::spawn(
        axum::serve(listener, router)
            .with_graceful_shutdown(closed)
            .into_future(),
    );

    let outcome = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, ?grace, "shutting down; a second signal ends at once");
            Ok(())
        }
        reason = failure(&engine) => Err(ServerError::Engine(reason)),
    };
    let leave = async {
        if outcome.is_ok() {
            engine.shutdown(grace).await;
        }
        close.cancel();
        if timeout(FLUSH, serving).await.is_err() {
            tracing::warn!("cut connections that did not take their answer within {FLUSH:?}");
        }
    };
    tokio::select! {
        () = leave => outcome,
        name = signals.next() => Err(ServerError::Hurried(name)),
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
