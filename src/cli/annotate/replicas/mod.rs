//! Running servers that share the work.
//!
//! [`pool`] decides which server is next, [`probe`] asks whether one is ready, and [`reply`] reads
//! answers. A server that fails gets no more requests until it answers `/health/ready` again, and
//! what it was asked goes to another.

mod pool;
mod probe;
mod reply;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use paligemma_server::api::ErrorCode;
use paligemma_server::http_client;
use paligemma_server::settings::ApiKey;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use tokio::sync::Notify;

use pool::{ATTEMPTS, Choice, Pool};
use probe::Served;
pub use reply::{Reply, events};

/// How long a server may take to accept a connection, and how long its machine may be silent while it
/// works.
const SILENCE: Duration = Duration::from_secs(20);
/// How long one request may take. A server's own limit is usually less.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Between two questions whether a server is ready.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Between two questions whether a server that works still answers.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// The wait when a server does not say how long.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);
/// A server that says 0 is not asked in a loop.
const LEAST_WAIT: Duration = Duration::from_millis(20);

/// Which servers, and how they are used.
#[derive(Debug, Clone)]
pub struct Options {
    pub servers: Vec<Url>,
    pub key: Option<ApiKey>,
    /// Most requests at one server.
    pub in_flight: usize,
    /// How long to wait while no server is ready.
    pub patience: Duration,
    /// An adapter that all of them have.
    pub adapter: Option<String>,
}

/// Servers that share the work. Clones share them.
#[derive(Clone)]
pub struct Replicas(Arc<Shared>);

struct Shared {
    options: Options,
    client: Client,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    pool: Pool,
    /// The model that all serve, and the server that was the first to say so.
    model: Option<(String, Url)>,
    /// Why no server may be used.
    refused: Option<String>,
}

/// A place at one server, freed when dropped.
struct Lease<'a> {
    shared: &'a Arc<Shared>,
    index: usize,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.shared.state().pool.release(self.index);
        self.shared.changed.notify_waiters();
    }
}

impl Replicas {
    /// Waits until one of the servers is ready.
    ///
    /// # Errors
    /// When none is within the time of the options, or one can't be used.
    pub async fn connect(options: Options) -> anyhow::Result<Self> {
        // Proxies in the environment are for requests to the internet.
        let client = http_client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(SILENCE)
            .tcp_keepalive(SILENCE)
            .tcp_user_timeout(SILENCE)
            .timeout(PATIENCE)
            .build()?;
        let servers = options.servers.len();
        let pool = Pool::new(servers, options.in_flight, Instant::now());
        let shared = Arc::new(Shared {
            options,
            client,
            state: Mutex::new(State {
                pool,
                model: None,
                refused: None,
            }),
            changed: Notify::new(),
        });
        (0..servers).for_each(|index| shared.watch(index, Duration::ZERO));
        drop(shared.take().await?);
        Ok(Self(shared))
    }

    /// The name of the model that they serve.
    pub fn model(&self) -> String {
        let state = self.0.state();
        let model = state.model.as_ref();
        model.map(|(name, _)| name.clone()).unwrap_or_default()
    }

    /// The adapter that is asked.
    pub fn adapter(&self) -> Option<&str> {
        self.0.options.adapter.as_deref()
    }

    /// How many requests all of them get at a time.
    pub fn in_flight(&self) -> usize {
        self.0.options.in_flight * self.0.options.servers.len()
    }

    /// Sends a request to a server that is free, and to another when that one fails. Waits when they
    /// ask for it. `Err` inside is why there is no answer after several attempts.
    ///
    /// # Errors
    /// When no server is ready for too long, or none may be used.
    pub async fn send(
        &self,
        path: &str,
        build: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<Result<Reply, String>> {
        let mut failures = 0;
        loop {
            let lease = self.0.take().await?;
            let request = build(self.0.post(lease.index, path)?);
            let answer = async { Reply::read(request.send().await?).await };
            let answer = tokio::select! {
                answer = answer => answer,
                error = self.0.silent(lease.index) => Err(error),
            };
            let reason = match answer {
                Ok(reply) => match self.0.judge(lease.index, &reply) {
                    Verdict::Answer => return Ok(Ok(reply)),
                    Verdict::Later => continue,
                    Verdict::Failure => reply.reason(),
                },
                Err(error) => {
                    let is_connect = error.is_connect();
                    let reason = probe::reason(error);
                    self.0.down(lease.index, &reason, PROBE_EVERY);
                    // A request that has not arrived is not to blame.
                    if is_connect {
                        continue;
                    }
                    reason
                }
            };
            failures += 1;
            if failures >= ATTEMPTS {
                return Ok(Err(reason));
            }
        }
    }
}

/// What an answer means for its request.
enum Verdict {
    Answer,
    /// The server has no time for it now.
    Later,
    /// It failed, and may fail again.
    Failure,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, index: usize, path: &str) -> anyhow::Result<RequestBuilder> {
        let request = self.client.post(self.options.servers[index].join(path)?);
        Ok(self.with_key(request))
    }

    fn with_key(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.options.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    /// Waits for a server that is free.
    async fn take(self: &Arc<Self>) -> anyhow::Result<Lease<'_>> {
        loop {
            // Before the look at the state, so that no change is missed.
            let changed = self.changed.notified();
            let choice = {
                let mut state = self.state();
                if let Some(reason) = &state.refused {
                    bail!("{reason}");
                }
                state.pool.choose(Instant::now(), self.options.patience)
            };
            match choice {
                Choice::Take(index) => {
                    return Ok(Lease {
                        shared: self,
                        index,
                    });
                }
                Choice::Wait(None) => changed.await,
                Choice::Wait(Some(end)) => {
                    let _ = tokio::time::timeout_at(end.into(), changed).await;
                }
                Choice::GiveUp => bail!("{}", self.none_ready()),
            }
        }
    }

    /// That no server is ready, and why.
    fn none_ready(&self) -> String {
        let state = self.state();
        let reasons = state.pool.reasons();
        let reasons: Vec<_> = reasons
            .map(|(index, reason)| format!("{}: {reason}", shown(&self.options.servers[index])))
            .collect();
        let seconds = self.options.patience.as_secs_f64();
        format!(
            "no server was ready for {seconds:.0} s; {}",
            reasons.join("; ")
        )
    }

    /// Notes what an answer says of its server.
    fn judge(self: &Arc<Self>, index: usize, reply: &Reply) -> Verdict {
        let wait = reply.retry_after.unwrap_or(DEFAULT_WAIT).max(LEAST_WAIT);
        match reply.status {
            StatusCode::TOO_MANY_REQUESTS => {
                self.state().pool.pause(index, Instant::now() + wait);
                Verdict::Later
            }
            StatusCode::SERVICE_UNAVAILABLE if reply.is(ErrorCode::TooManyConnections) => {
                self.state().pool.pause(index, Instant::now() + wait);
                Verdict::Later
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                self.down(index, &reply.reason(), wait);
                Verdict::Later
            }
            StatusCode::GATEWAY_TIMEOUT if reply.is(ErrorCode::DeadlineExceeded) => {
                self.state().pool.too_slow(index);
                Verdict::Failure
            }
            // Of a proxy before the server.
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                self.down(index, &reply.reason(), wait);
                Verdict::Failure
            }
            StatusCode::REQUEST_TIMEOUT => Verdict::Failure,
            StatusCode::INTERNAL_SERVER_ERROR => Verdict::Failure,
            _ => {
                self.state().pool.answered(index);
                Verdict::Answer
            }
        }
    }

    /// The server gets no more requests until it is ready; that is asked after `wait`.
    fn down(self: &Arc<Self>, index: usize, reason: &str, wait: Duration) {
        if self.state().pool.down(index, reason, Instant::now()) {
            let server = shown(&self.options.servers[index]);
            tracing::warn!(server, "gets no more pictures until it is ready: {reason}");
            self.watch(index, wait);
        }
    }

    /// Returns when the server does not answer any more, although its machine may: a hung process keeps
    /// its connections.
    async fn silent(&self, index: usize) -> reqwest::Error {
        let mut missed = 0;
        loop {
            tokio::time::sleep(ALIVE_EVERY).await;
            match self.is_alive(index).await {
                Ok(()) => missed = 0,
                Err(error) if missed > 0 => return error,
                Err(_) => missed += 1,
            }
        }
    }

    /// Asks the server until it is ready.
    fn watch(self: &Arc<Self>, index: usize, mut wait: Duration) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(wait).await;
                wait = PROBE_EVERY;
                match shared.probe(index).await {
                    Ok(served) => return shared.ready(index, served),
                    Err(probe::Failure::Later(reason)) => {
                        shared.state().pool.down(index, &reason, Instant::now());
                    }
                    Err(probe::Failure::Never(reason)) => return shared.refuse(reason),
                }
            }
        });
    }

    fn ready(&self, index: usize, served: Served) {
        let url = &self.options.servers[index];
        let Served { model, adapters } = served;
        let adapter = self.options.adapter.as_ref();
        if let Some(adapter) = adapter.filter(|adapter| !adapters.contains(adapter)) {
            return self.refuse(format!("{} has no adapter {adapter}", shown(url)));
        }
        let mut state = self.state();
        match &state.model {
            Some((first, at)) if *first != model => {
                let reason = format!(
                    "{} serves {model}, but {} serves {first}; all servers must have the same model",
                    shown(url),
                    shown(at)
                );
                drop(state);
                return self.refuse(reason);
            }
            Some(_) => {}
            None => state.model = Some((model, url.clone())),
        }
        state.pool.ready(index);
        drop(state);
        tracing::info!(server = shown(url), "is ready");
        self.changed.notify_waiters();
    }

    fn refuse(&self, reason: String) {
        self.state().refused.get_or_insert(reason);
        self.changed.notify_waiters();
    }
}

/// The server's URL without the slash at its end.
fn shown(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}
