//! One request inside the engine.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{mpsc, watch};

use super::generation::Waiting;
use super::output::Output;
use super::sampler::Sampler;
use super::trace::Trace;
use super::{Answerer, Generation, Request, UsageMeter};
use crate::models::{AdapterId, DecodeRow};
use crate::pixels::Pixels;
use crate::tokenizer::Tokenizer;

/// A request whose prompt is tokenized and which fits the context.
pub(super) struct Tokenized {
    pub request: Request,
    /// `<bos>`, the prompt and the newline.
    pub prompt: Vec<u32>,
    /// What the request may have of the context for its answer; at least 1.
    pub max_tokens: usize,
}

/// Engine-side state of one request: all of its tokens, so that it can be prefilled again, and
/// where its output goes. The scheduler owns it.
pub(super) struct Sequence {
    /// The picture that the request is about.
    pub image: Arc<Pixels>,
    pub adapter: Option<Answerer>,
    /// `<bos>`, the prompt and the newline.
    pub prompt: Arc<[u32]>,
    /// What was generated so far.
    pub generated: Vec<u32>,
    pub output: SharedOutput,
    image_tokens: usize,
    deadline: Option<Instant>,
    client: mpsc::UnboundedSender<Waiting>,
    place: watch::Sender<usize>,
}

/// A sequence's output, which is made outside the engine's lock.
#[derive(Clone)]
pub(super) struct SharedOutput(Arc<Mutex<Output>>);

impl SharedOutput {
    /// A panic while it was locked leaves nothing half done that matters, so poison is ignored.
    pub(super) fn lock(&self) -> MutexGuard<'_, Output> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sequence {
    /// A sequence about an image of `image_tokens` tokens, and the stream of its events.
    pub(super) fn new(
        tokenized: Tokenized,
        image_tokens: usize,
        tokenizer: Arc<Tokenizer>,
    ) -> (Self, Generation) {
        let Tokenized {
            request,
            prompt,
            max_tokens,
        } = tokenized;
        let (events, receiver) = mpsc::unbounded_channel();
        let (place, its_place) = watch::channel(0);
        let usage = UsageMeter::new(image_tokens, prompt.len());
        let output = Output::new(
            events.clone(),
            tokenizer.clone(),
            Sampler::new(&request.sampling, request.logprobs, request.neighbours),
            request.stop,
            max_tokens,
            usage.clone(),
            Trace::new(image_tokens, prompt.len()),
        );
        let sequence = Self {
            image: request.image,
            adapter: request.adapter,
            prompt: prompt.into(),
            generated: Vec::new(),
            output: SharedOutput(Arc::new(Mutex::new(output))),
            image_tokens,
            deadline: request.deadline,
            client: events,
            place,
        };
        let generation = Generation::new(receiver, tokenizer, its_place, usage);
        (sequence, generation)
    }

    /// Tells the client its place in the line for a slot, if that has changed.
    pub(super) fn tell_place(&self, place: usize) {
        let told = |current: &mut usize| std::mem::replace(current, place) != place;
        self.place.send_if_modified(told);
    }

    /// Rows of a prefill: image, prompt, and what was generated before.
    pub(super) fn prefill_tokens(&self) -> usize {
        self.image_tokens + self.prompt.len() + self.generated.len()
    }

    /// Whether that adapter answers it.
    pub(super) fn is_of(&self, id: AdapterId) -> bool {
        self.adapter.is_some_and(|adapter| adapter.id == id)
    }

    /// True once the client has gone or the deadline has passed; abort it then.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.client.is_closed() || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// What the model computes for the next token; `None` before the first.
    pub(super) fn decode_row(&self, slot: usize) -> Option<DecodeRow> {
        Some(DecodeRow {
            slot,
            position: self.prefill_tokens() - 1,
            token: *self.generated.last()?,
            adapter: self.adapter.map(|adapter| adapter.id),
        })
    }
}
