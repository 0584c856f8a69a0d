//! The one way in which HTTP clients are made here.

use std::sync::Once;

/// A client's builder. It verifies certificates with rustls and ring, and trusts what the system
/// trusts.
pub fn builder() -> reqwest::ClientBuilder {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let provider = rustls::crypto::ring::default_provider();
        if provider.install_default().is_err() {
            tracing::debug!("another cryptography provider was installed before");
        }
    });
    reqwest::Client::builder()
}
