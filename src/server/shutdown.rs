//! What ends a server: SIGINT and SIGTERM, or a call by the code that runs it.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// A stream of requests to shut down. The first asks for an orderly end, the second for an end at
/// once.
pub struct Shutdown(Source);

enum Source {
    Signals {
        interrupt: Signal,
        terminate: Signal,
    },
    Trigger(mpsc::UnboundedReceiver<()>),
}

/// Asks a server in this process to shut down.
#[derive(Debug, Clone)]
pub struct Trigger(mpsc::UnboundedSender<()>);

impl Shutdown {
    /// SIGINT and SIGTERM, heard from the moment this is made.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub fn on_signals() -> std::io::Result<Self> {
        Ok(Self(Source::Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        }))
    }

    /// Whenever the trigger is pulled.
    pub fn on_trigger() -> (Trigger, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Trigger(sender), Self(Source::Trigger(receiver)))
    }

    /// The name of what asks next. Dropping the future loses nothing.
    pub async fn next(&mut self) -> &'static str {
        match &mut self.0 {
            Source::Signals {
                interrupt,
                terminate,
            } => tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            },
            Source::Trigger(pulled) => match pulled.recv().await {
                Some(()) => "the trigger",
                None => std::future::pending().await,
            },
        }
    }
}

impl Trigger {
    /// Pulls the trigger. A server that has ended already doesn't mind.
    pub fn pull(&self) {
        let _ = self.0.send(());
    }
}
