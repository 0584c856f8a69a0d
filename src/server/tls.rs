//! HTTPS: the server's certificate, and the handshake.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::settings::Settings;

/// The certificate in use, which may be replaced while the server runs. Clones share it.
#[derive(Debug, Clone)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

/// Why a certificate can't be used.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("{set} is set, and {missing} is not: HTTPS takes a certificate and its key")]
    OneAlone {
        set: &'static str,
        missing: &'static str,
    },
    #[error("{setting} {path}: {reason}")]
    File {
        setting: &'static str,
        path: PathBuf,
        reason: String,
    },
    #[error("tls_cert {certificate} and tls_key {key} can't be used: {error}")]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        error: rustls::Error,
    },
}

impl Tls {
    /// What the settings name; `None` for HTTP.
    ///
    /// # Errors
    /// When only one of certificate and key is named, a file can't be read, or they don't belong
    /// together.
    pub fn of(settings: &Settings) -> Result<Option<Self>, TlsError> {
        let (certificate, key) = (&settings.tls_cert, &settings.tls_key);
        let is_set = |path: &Path| !path.as_os_str().is_empty();
        match (is_set(certificate), is_set(key)) {
            (false, false) => Ok(None),
            (true, false) => Err(TlsError::OneAlone {
                set: "tls_cert",
                missing: "tls_key",
            }),
            (false, true) => Err(TlsError::OneAlone {
                set: "tls_key",
                missing: "tls_cert",
            }),
            (true, true) => Ok(Some(Self {
                current: Arc::new(RwLock::new(read(certificate, key)?)),
                certificate: certificate.clone(),
                key: key.clone(),
            })),
        }
    }

    /// Reads the files again, for connections that come from now on.
    ///
    /// # Errors
    /// As [`of`](Self::of); what was in use stays so.
    pub fn reload(&self) -> Result<(), TlsError> {
        let read = read(&self.certificate, &self.key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// Shakes hands with a client.
    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.current()).accept(stream).await
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let wrong = |setting, path: &Path, reason: String| TlsError::File {
        setting,
        path: path.to_owned(),
        reason,
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong("tls_cert", certificate, error.to_string()))?;
    if chain.is_empty() {
        let reason = "it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)";
        return Err(wrong("tls_cert", certificate, reason.to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| wrong("tls_key", key, error.to_string()))?;
    let pair = |error| TlsError::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        error,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private)
        })
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
