//! An engine on a toy model, and what tests do with it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use paligemma_server::engine::{
    EngineHandle, EngineOptions, Event, Failure, Generation, MaxTokens, Request, Sampling, State,
    Summary, TokenInfo,
};
use paligemma_server::models::Pretrained;
use paligemma_server::pixels::Pixels;
use paligemma_server::tokenizer::Tokenizer;

use paligemma_test_support::toy_model::{Control, PATIENCE};

pub const CONTEXT: usize = 200;

/// What a test's engine is like, unless the test says otherwise. Each step runs one layer of a
/// stage, and a model that fails is not built again.
pub const OPTIONS: EngineOptions = EngineOptions {
    slots: 1,
    queue: 1,
    context: CONTEXT,
    max_token_gap: Duration::ZERO,
    prefill_batch_tokens: 32,
    image_cache_bytes: 0,
    model_restarts: 0,
    step_timeout: Duration::from_secs(600),
};

/// An engine whose model does what the test tells it.
pub struct Bench {
    pub engine: EngineHandle,
    pub control: Arc<Control>,
    pub tokenizer: Arc<Tokenizer>,
}

impl Bench {
    /// A ready engine with so many slots and places in its queue.
    pub async fn start(slots: usize, queue: usize) -> Self {
        Self::start_with(EngineOptions {
            slots,
            queue,
            ..OPTIONS
        })
        .await
    }

    pub async fn start_with(options: EngineOptions) -> Self {
        let tokenizer = tokenizer();
        let control = Arc::new(Control::new());
        let (its_control, vocab_size) = (control.clone(), tokenizer.vocab_size());
        let engine = EngineHandle::start(options, tokenizer.clone(), move || {
            its_control.build(vocab_size)
        });
        assert_eq!(state_after(&engine, State::Loading).await, State::Ready);
        Self {
            engine,
            control,
            tokenizer,
        }
    }

    pub fn submit(&self, prompt: &str, max_tokens: usize) -> Generation {
        self.engine.submit(request(prompt, max_tokens)).unwrap()
    }

    /// After this prompt the model says these tokens.
    pub fn script(&self, prompt: &str, tokens: &[u32]) {
        self.control.script(self.prompt(prompt), tokens.to_vec());
    }

    /// A prompt's ids, `<bos>` to newline.
    pub fn prompt(&self, prompt: &str) -> Vec<u32> {
        self.tokenizer.encode_prompt(prompt).unwrap()
    }

    /// The tokens of a text, without `<bos>` and newline.
    pub fn ids(&self, text: &str) -> Vec<u32> {
        let ids = self.prompt(text);
        ids[1..ids.len() - 1].to_vec()
    }

    pub fn eos(&self) -> u32 {
        (0..self.tokenizer.vocab_size() as u32)
            .find(|&id| self.tokenizer.is_eos(id))
            .unwrap()
    }
}

/// A tokenizer that decodes as Gemma's does.
pub fn tokenizer() -> Arc<Tokenizer> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/model/pg1-hub");
    Pretrained::open(&folder).unwrap().tokenizer
}

/// An image of one colour.
pub fn image(colour: u8) -> Arc<Pixels> {
    Arc::new(Pixels {
        data: vec![colour; 3],
        side: 1,
        width: 1,
        height: 1,
        hash: [colour; 32],
    })
}

pub fn request(prompt: &str, max_tokens: usize) -> Request {
    Request {
        adapter: None,
        image: image(1),
        prompt: prompt.to_owned(),
        max_tokens: MaxTokens::Exactly(max_tokens),
        sampling: Sampling::greedy(),
        stop: Vec::new(),
        logprobs: None,
        neighbours: None,
        deadline: None,
    }
}

/// The state that follows on `state`.
pub async fn state_after(engine: &EngineHandle, state: State) -> State {
    let mut states = engine.watch_state();
    let next = states.wait_for(|next| *next != state);
    let next = tokio::time::timeout(PATIENCE, next).await;
    next.expect("the state changes").unwrap().clone()
}

/// All that a generation yielded.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    pub text: String,
    pub pieces: Vec<String>,
    pub tokens: Vec<TokenInfo>,
    pub end: Result<Summary, Failure>,
}

impl Answered {
    pub fn summary(&self) -> &Summary {
        self.end.as_ref().expect("the answer is complete")
    }

    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }
}

/// Follows a generation to its end, which must be its only one.
pub async fn answer(mut generation: Generation) -> Answered {
    let mut pieces = Vec::new();
    let mut tokens = Vec::new();
    let mut end = None;
    while let Some(event) = next(&mut generation).await {
        assert!(end.is_none(), "{event:?} came after the end");
        match event {
            Event::Delta {
                text,
                tokens: newer,
            } => {
                pieces.push(text);
                tokens.extend(newer);
            }
            Event::Finished(summary) => end = Some(Ok(summary)),
            Event::Failed(failure) => end = Some(Err(failure)),
        }
    }
    Answered {
        text: pieces.concat(),
        pieces,
        tokens,
        end: end.expect("a generation has an end"),
    }
}

pub async fn next(generation: &mut Generation) -> Option<Event> {
    let event = tokio::time::timeout(PATIENCE, generation.next()).await;
    event.expect("the engine goes on")
}
