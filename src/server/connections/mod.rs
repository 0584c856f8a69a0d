//! Connections: accepted within bounds, and each served until it ends, is silent for too long, or
//! gives way to another.
//!
//! axum's own `serve` has no bound on connections and on their silence. So a few hundred sockets
//! that say nothing would take every file descriptor, and health checks would find no one.

mod places;
mod protocol_errors;

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use self::places::{Place, Places};
use self::protocol_errors::ProtocolErrors;
use super::tls::Tls;
use crate::api::{GuardedBody, SpareConnection};
use crate::telemetry::metrics;

/// How long to wait when the operating system has no more descriptors or memory for a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Most bytes of an answer that wait for their reader, and of a request's head: hyper's 400 kB would be most
/// of what a stream takes that nobody reads.
const BUFFER: usize = 64 * 1024;

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many there may be, beside a few spare ones for health checks.
    pub connections: usize,
    /// How long one may take until the head of its next request is there.
    pub idle: Duration,
    /// How long a client may take nothing of its answer.
    pub write: Duration,
}

/// Serves `router` on `listener` until `close` is cancelled; then lets requests that are under way
/// end.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
    close: CancellationToken,
) {
    let places = Places::new(limits.connections);
    let tracker = TaskTracker::new();
    loop {
        let accepted = async {
            places.room().await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = close.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = Connection {
                    peer,
                    router: router.clone(),
                    place: places.take(),
                    limits,
                    close: close.clone(),
                };
                tracker.spawn(connection.begin(stream, tls.clone()));
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                places.evict();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    tracker.close();
    tracker.wait().await;
}

/// Whether it was the client that gave up before it was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// Whether the client took nothing of its answer for as long as it may: what [`TimeoutStream`] says of a
/// write. A head that does not come is hyper's own error, without a cause.
fn is_stalled_reader(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    cause.is_some_and(|cause: &io::Error| cause.kind() == io::ErrorKind::TimedOut)
}

/// One connection, from its socket to its end.
struct Connection {
    peer: SocketAddr,
    router: Router,
    place: Place,
    limits: Limits,
    close: CancellationToken,
}

impl Connection {
    /// Shakes hands, if there is a certificate, and serves.
    async fn begin(self, stream: TcpStream, tls: Option<Tls>) {
        // Each event of a stream is a packet of its own: waiting to fill one would hold tokens back.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("a connection keeps Nagle's algorithm: {error}");
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.limits.write));
        let stream = Box::pin(stream);
        let Some(tls) = tls else {
            return self.serve(stream).await;
        };
        // A handshake is as good as a head that does not come.
        let shaken = tokio::select! {
            shaken = timeout(self.limits.idle, tls.accept(stream)) => shaken,
            () = self.place.gives_way() => return,
            () = self.close.cancelled() => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
            Err(_) => tracing::debug!("a handshake took too long"),
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Self {
            peer,
            router,
            place,
            limits,
            close,
        } = self;
        let answer = async |request: Request<Incoming>| {
            let busy = place.busy();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            if place.is_spare() {
                request.extensions_mut().insert(SpareConnection);
            }
            let response = router.clone().oneshot(request).await;
            response.map(|response| response.map(|body| GuardedBody::new(body, busy)))
        };
        let service = hyper::service::service_fn(answer);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.idle)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(ProtocolErrors::new(stream)), service);
        let mut connection = std::pin::pin!(connection);
        let mut closing = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, %error, "a connection ended early");
                        if is_stalled_reader(&error) {
                            metrics::stalled_reader();
                        }
                    }
                    return;
                }
                () = place.gives_way(), if !closing => {
                    // A request may have come since it was chosen; it is still answered.
                    if !place.is_busy() {
                        return;
                    }
                }
                () = close.cancelled(), if !closing => {}
            }
            closing = true;
            connection.as_mut().graceful_shutdown();
        }
    }
}
