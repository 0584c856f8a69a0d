//! The engine as the rest of the server sees it.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::change::Change;
use super::sequence::{Sequence, Tokenized};
use super::shared::Shared;
use super::{EngineOptions, Generation, MaxTokens, Request, State, SubmitError};
use super::{supervisor, watchdog};
use crate::models::{AdapterId, Adapters, Model, Resident};
use crate::telemetry::metrics;
use crate::tokenizer::Tokenizer;

/// Takes requests for the engine. Cheap to clone; when the last clone is dropped, the engine ends
/// as soon as it has answered what it had taken on.
#[derive(Clone)]
pub struct EngineHandle {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    options: EngineOptions,
    tokenizer: Arc<Tokenizer>,
    /// Its sender lives on the worker's thread, and is dropped at its end.
    ended: watch::Receiver<()>,
}

impl EngineHandle {
    /// Starts the engine: a thread of its own builds the model through `factory` and runs it.
    /// `factory` is called again when the model fails.
    ///
    /// Returns at once, in [`State::Loading`].
    ///
    /// # Panics
    /// When the operating system gives no thread.
    pub fn start<M, E, F>(options: EngineOptions, tokenizer: Arc<Tokenizer>, factory: F) -> Self
    where
        M: Model,
        E: Display,
        F: Fn() -> Result<M, E> + Send + 'static,
    {
        metrics::capacities(options.slots, options.queue, options.image_cache_bytes);
        let shared = Arc::new(Shared::new(options.limits()));
        let (alive, ended) = watch::channel(());
        let (its_shared, its_options) = (shared.clone(), options.clone());
        let vocab_size = tokenizer.vocab_size();
        spawn("model", move || {
            supervisor::run(&its_shared, &its_options, vocab_size, factory);
            drop(alive);
        });
        let (its_shared, step_timeout) = (shared.clone(), options.step_timeout);
        spawn("watchdog", move || watchdog::run(&its_shared, step_timeout));
        let inner = Inner {
            shared,
            options,
            tokenizer,
            ended,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Queues one request.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit(&self, request: Request) -> Result<Generation, SubmitError> {
        let mut generations = self.submit_all(vec![request])?;
        Ok(generations.remove(0))
    }

    /// Queues all of `requests`, or none of them; the generations come in the same order.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit_all(&self, requests: Vec<Request>) -> Result<Vec<Generation>, SubmitError> {
        let count = requests.len();
        let result = self.try_submit_all(requests);
        if let Err(error) = &result {
            metrics::rejected(error.reason(), count);
        }
        result
    }

    fn try_submit_all(&self, requests: Vec<Request>) -> Result<Vec<Generation>, SubmitError> {
        refuse_unless_ready(self.state())?;
        let allowed = self.inner.options.slots + self.inner.options.queue;
        if requests.len() > allowed {
            return Err(SubmitError::TooMany {
                requests: requests.len(),
                allowed,
            });
        }
        let tokenized = requests.into_iter().map(|request| self.tokenize(request));
        self.enqueue(tokenized.collect::<Result<_, _>>()?)
    }

    /// Tokenizes a request's prompt and checks that the context can hold all of the request.
    fn tokenize(&self, request: Request) -> Result<Tokenized, SubmitError> {
        let context = self.inner.options.context;
        let image_tokens = self.inner.shared.image_tokens();
        let prompt = self.inner.tokenizer.encode_prompt(&request.prompt);
        let prompt = prompt.map_err(|error| SubmitError::Tokenizer(error.to_string()))?;
        let allowed = context.saturating_sub(image_tokens + prompt.len());
        if allowed == 0 {
            return Err(SubmitError::PromptTooLong {
                prompt_tokens: prompt.len(),
                image_tokens,
                context,
            });
        }
        let max_tokens = match request.max_tokens {
            MaxTokens::Exactly(tokens) => tokens,
            MaxTokens::AtMost(tokens) => tokens.min(allowed),
        };
        if max_tokens == 0 || max_tokens > allowed {
            return Err(SubmitError::MaxTokens {
                max_tokens,
                allowed,
            });
        }
        Ok(Tokenized {
            request,
            prompt,
            max_tokens,
        })
    }

    fn enqueue(&self, requests: Vec<Tokenized>) -> Result<Vec<Generation>, SubmitError> {
        let Inner {
            shared, options, ..
        } = &*self.inner;
        let count = requests.len();
        if shared.lock().scheduler.room() < count {
            // Those who left may still stand in the queue.
            shared.retire(Instant::now());
        }
        let mut inner = shared.lock();
        refuse_unless_ready(self.state())?;
        let gone = |request: &Tokenized| {
            let adapter = request.request.adapter;
            adapter.is_some_and(|adapter| inner.removed.contains(&adapter.id))
        };
        if requests.iter().any(gone) {
            return Err(SubmitError::NoAdapter);
        }
        let mut generations = Vec::with_capacity(count);
        let sequences = requests.into_iter().map(|request| {
            let tokenizer = self.inner.tokenizer.clone();
            let (sequence, generation) = Sequence::new(request, shared.image_tokens(), tokenizer);
            generations.push(generation);
            let tokens = sequence.prefill_tokens();
            (sequence, tokens)
        });
        if inner.scheduler.submit(sequences).is_err() {
            return Err(SubmitError::QueueFull {
                queue: options.queue,
                retry_after: inner.vacancies.time_for(count, Instant::now()),
            });
        }
        inner.report_load();
        shared.wake();
        Ok(generations)
    }

    /// Makes an adapter resident and adds it to `list`; gives the bytes that it takes.
    ///
    /// # Errors
    /// Why it can't be: it does not fit the model, the name is taken, or the engine has ended.
    pub async fn add_adapter(&self, resident: Resident, list: Adapters) -> Result<usize, String> {
        let (done, told) = oneshot::channel();
        self.change(Change::Add {
            resident,
            list,
            done,
        });
        let ended = |_| Err("the model has failed or the server is shutting down".to_owned());
        told.await.unwrap_or_else(ended)
    }

    /// Lets go of an adapter once no request needs it. No further ones are taken on.
    pub async fn remove_adapter(&self, id: AdapterId) {
        let (done, told) = oneshot::channel();
        self.inner.shared.lock().removed.insert(id);
        self.change(Change::Remove { id, done });
        // An engine that has ended needs none.
        let _ = told.await;
    }

    fn change(&self, change: Change) {
        let shared = &self.inner.shared;
        let mut inner = shared.lock();
        if !inner.ended {
            inner.changes.push_back(change);
        }
        shared.wake();
    }

    /// The adapters of sequences in the model, and of those that wait.
    pub fn adapters_in_use(&self) -> [BTreeSet<AdapterId>; 2] {
        let inner = self.inner.shared.lock();
        let of = |sequence: &Sequence| sequence.adapter.map(|adapter| adapter.id);
        let running = inner.scheduler.running().filter_map(of).collect();
        let waiting = inner.scheduler.waiting().filter_map(of).collect();
        [running, waiting]
    }

    /// Whether one more request can be queued now.
    pub fn has_room(&self) -> bool {
        let shared = &self.inner.shared;
        let room = || shared.lock().scheduler.room() > 0;
        room() || {
            // Those who left may still stand in the queue.
            shared.retire(Instant::now());
            room()
        }
    }

    /// How long to wait until there is room for one more request, by when requests have ended of late.
    pub fn retry_after(&self) -> Duration {
        let inner = self.inner.shared.lock();
        inner.vacancies.time_for(1, Instant::now())
    }

    /// What turns its tokens into text.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.inner.tokenizer
    }

    /// What the engine is doing.
    pub fn state(&self) -> State {
        self.inner.shared.state()
    }

    /// Whether the model was ever loaded, whatever became of it.
    pub fn was_loaded(&self) -> bool {
        self.inner.shared.was_loaded()
    }

    /// Follows what the engine is doing.
    pub fn watch_state(&self) -> watch::Receiver<State> {
        self.inner.shared.watch()
    }

    /// Stops admitting requests. What waits or runs goes on until `grace` has passed and then ends
    /// with [`Failure::ShuttingDown`](super::Failure::ShuttingDown). Resolves when the worker has
    /// ended, or when the grace has passed although a step is still under way; at once if the model
    /// is still loading, because a load can't be interrupted and nobody waits for an answer.
    pub async fn shutdown(&self, grace: Duration) {
        let was = self.inner.shared.close(Some(Instant::now() + grace));
        if was == State::Loading {
            return;
        }
        let mut ended = self.inner.ended.clone();
        let worker_ends = async { while ended.changed().await.is_ok() {} };
        if tokio::time::timeout(grace, worker_ends).await.is_err() {
            self.inner.shared.abort_remaining();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.close(None);
    }
}

fn refuse_unless_ready(state: State) -> Result<(), SubmitError> {
    match state {
        State::Ready => Ok(()),
        State::Loading | State::Restarting => Err(SubmitError::Loading),
        State::Draining => Err(SubmitError::Draining),
        State::Failed(reason) => Err(SubmitError::Failed(reason)),
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .expect("the operating system gives a thread at start");
}
