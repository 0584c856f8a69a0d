//! SIGHUP: what can change while the server runs is read again.

use tokio::signal::unix::{SignalKind, signal};

use super::tls::Tls;
use crate::api::Keys;

/// Reads the keys and the certificate again at each SIGHUP. Never returns, unless signals can't be
/// heard.
pub(super) async fn on_hangup(keys: Keys, tls: Option<Tls>) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::warn!(%error, "SIGHUP can't be heard, so keys and certificates are never read again");
            return;
        }
    };
    while hangups.recv().await.is_some() {
        match keys.reload() {
            Ok(keys) => tracing::info!(keys, "keys were read again"),
            Err(error) => tracing::warn!("the keys stay as they are: {error}"),
        }
        match tls.as_ref().map(Tls::reload) {
            Some(Ok(())) => tracing::info!("the certificate was read again"),
            Some(Err(error)) => tracing::warn!("the certificate stays as it is: {error}"),
            None => {}
        }
    }
}
