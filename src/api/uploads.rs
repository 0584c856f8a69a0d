//! Requests whose bodies are being received: how many of one client, in how much memory, and how
//! slowly they may come.
//!
//! A request takes a place before the engine only when its body is there. Until then it costs a
//! connection and the memory of what has arrived, so these are what is bounded here: a client that
//! sends heads and no bodies keeps nobody out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::error::{ApiError, ErrorCode};
use super::middleware::auth::KeyName;
use crate::settings::Settings;
use crate::telemetry::metrics::{self, Preparing, Stage};

/// Until then, no body counts as too slow.
const GRACE: Duration = Duration::from_secs(5);
/// How long a client should wait that has too many uploads, or for which there is no memory.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The uploads under way. Clones share them.
#[derive(Debug, Clone)]
pub struct Uploads {
    clients: Arc<Mutex<HashMap<Client, usize>>>,
    memory: Arc<Semaphore>,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    per_client: usize,
    /// Bytes a second; 0: any.
    least_rate: u64,
    timeout: Duration,
}

/// Who sends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Client {
    Key(KeyName),
    Address(IpAddr),
    /// Asks in this process.
    Unknown,
}

/// One client's upload, which counts until this is dropped.
#[derive(Debug)]
pub struct Upload {
    uploads: Uploads,
    client: Client,
    _stage: Preparing,
}

/// The memory of a body that has arrived, given back when the last clone of this is dropped.
#[derive(Debug, Clone)]
pub struct Received {
    _memory: Arc<Option<OwnedSemaphorePermit>>,
}

/// How an upload goes.
#[derive(Debug, Default)]
struct Progress {
    bytes: u64,
    memory: Option<OwnedSemaphorePermit>,
    /// Why it was ended.
    failure: Option<ApiError>,
}

impl Uploads {
    /// None yet.
    pub fn new(settings: &Settings) -> Self {
        let memory = usize::try_from(settings.upload_memory.as_u64()).unwrap_or(usize::MAX);
        Self {
            clients: Arc::default(),
            memory: Arc::new(Semaphore::new(memory.min(Semaphore::MAX_PERMITS))),
            limits: Limits {
                per_client: settings.uploads_per_client,
                least_rate: settings.min_upload_rate.as_u64(),
                timeout: settings.upload_timeout,
            },
        }
    }

    /// Counts the upload of `request`, by its key if it has one, otherwise by its address.
    ///
    /// # Errors
    /// When its client has too many already.
    pub fn begin(&self, request: &Request) -> Result<Upload, ApiError> {
        let client = Client::of(request);
        let mut clients = lock(&self.clients);
        let count = clients.entry(client.clone()).or_default();
        if *count >= self.limits.per_client {
            let detail = format!(
                "{count} requests of this {} are being received already, the most at a time",
                match client {
                    Client::Key(_) => "key",
                    Client::Address(_) | Client::Unknown => "address",
                }
            );
            return Err(too_many(detail));
        }
        *count += 1;
        drop(clients);
        Ok(Upload {
            uploads: self.clone(),
            client,
            _stage: Preparing::new(Stage::Receiving),
        })
    }
}

impl Client {
    fn of(request: &Request) -> Self {
        if let Some(key) = request.extensions().get::<KeyName>() {
            return Self::Key(key.clone());
        }
        let peer = request
            .extensions()
            .get::<ConnectInfo<std::net::SocketAddr>>();
        peer.map_or(Self::Unknown, |ConnectInfo(peer)| Self::Address(peer.ip()))
    }
}

impl Upload {
    /// Lets `read` receive the request's body as quickly as the limits ask.
    ///
    /// # Errors
    /// Those of `read`; when the body is too slow, or takes more memory than is left.
    pub async fn receive<B>(
        &self,
        request: Request,
        read: impl AsyncFnOnce(Request) -> Result<B, ApiError>,
    ) -> Result<(Received, B), ApiError> {
        let progress = Arc::default();
        let body = self.bounded(Arc::clone(&progress));
        let result = read(request.map(body)).await;
        let Progress {
            memory, failure, ..
        } = std::mem::take(&mut *lock(&progress));
        match failure {
            Some(failure) => Err(failure),
            None => {
                let received = Received {
                    _memory: Arc::new(memory),
                };
                Ok((received, result?))
            }
        }
    }

    /// Makes a body that ends with an error when it goes beyond the limits, of which `progress` then
    /// tells.
    fn bounded(&self, progress: Arc<Mutex<Progress>>) -> impl FnOnce(Body) -> Body + use<> {
        let (limits, pool) = (self.uploads.limits, Arc::clone(&self.uploads.memory));
        let begun = Instant::now();
        move |body| {
            let mut chunks = body.into_data_stream();
            Body::from_stream(async_stream::stream! {
                loop {
                    let due = limits.due(begun, lock(&progress).bytes);
                    let next = timeout_at(due, chunks.next()).await;
                    let next = match next {
                        Ok(None) => return,
                        Ok(Some(Ok(chunk))) => lock(&progress).take(&pool, chunk.len()).map(|()| chunk),
                        Ok(Some(Err(error))) => {
                            yield Err(error);
                            return;
                        }
                        Err(_) => Err(limits.too_slow(begun.elapsed())),
                    };
                    match next {
                        Ok(chunk) => yield Ok(chunk),
                        Err(failure) => {
                            lock(&progress).failure = Some(failure.clone());
                            yield Err(axum::Error::new(failure));
                            return;
                        }
                    }
                }
            })
        }
    }
}

impl Limits {
    /// When the next part has to be there after that many bytes.
    fn due(self, begun: Instant, bytes: u64) -> Instant {
        let whole = begun + self.timeout;
        if self.least_rate == 0 {
            return whole;
        }
        let allowed = Duration::from_secs_f64(bytes as f64 / self.least_rate as f64);
        whole.min(begun + GRACE + allowed)
    }

    fn too_slow(self, elapsed: Duration) -> ApiError {
        let detail = match elapsed >= self.timeout {
            true => format!("the body did not arrive within {:?}", self.timeout),
            false => format!(
                "the body arrives more slowly than {} bytes a second",
                self.least_rate
            ),
        };
        ApiError::new(ErrorCode::RequestTimeout, detail)
    }
}

impl Progress {
    fn take(&mut self, pool: &Arc<Semaphore>, bytes: usize) -> Result<(), ApiError> {
        self.bytes += bytes as u64;
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(pool).try_acquire_many_owned(permits) else {
            let detail =
                "the bodies that are being received take all memory that there is for them";
            return Err(too_many(detail.to_owned()));
        };
        match &mut self.memory {
            Some(memory) => memory.merge(more),
            None => self.memory = Some(more),
        }
        Ok(())
    }
}

fn too_many(detail: String) -> ApiError {
    // What the body asks for is not known, so it counts as one.
    metrics::rejected("uploads", 1);
    ApiError::new(ErrorCode::TooManyUploads, detail).retry_after(RETRY_AFTER)
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut clients = lock(&self.uploads.clients);
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// A panic while one of these was locked leaves nothing half done, so poison is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_take_the_grace_and_the_time_that_its_bytes_need() {
        let limits = Limits {
            per_client: 1,
            least_rate: 1000,
            timeout: Duration::from_secs(60),
        };
        let begun = Instant::now();
        let due = |bytes| limits.due(begun, bytes).duration_since(begun).as_secs();
        assert_eq!([due(0), due(3000), due(10_000_000)], [5, 8, 60]);
    }
}
