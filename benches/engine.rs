//! What the engine adds to a step of the model.

use std::convert::Infallible;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use futures::StreamExt;
use paligemma_server::engine::{
    EngineHandle, EngineOptions, Event, Generation, MaxTokens, Request, Sampling, State,
};
use paligemma_server::pixels::Pixels;
use paligemma_test_support::server::Server;
use paligemma_test_support::toy_model::{Control, IMAGE_TOKENS, Toy};

use crate::http::RUNTIME;

/// Steps of one generation.
const STEPS: usize = 200;

/// Steps of one sequence while so many requests wait: the difference between the two, divided by
/// the steps, is what waiting requests cost each step, which has to stay below 50 µs.
#[divan::bench(args = [0, 10_000], sample_count = 10, sample_size = 1)]
fn steps_with_waiting(bencher: Bencher, waiting: usize) {
    let tokenizer = Server::tokenizer();
    let toy = Toy {
        control: Arc::new(Control::new()),
        vocab_size: tokenizer.vocab_size(),
    };
    let control = toy.control.clone();
    let options = EngineOptions {
        slots: 1,
        queue: waiting + 1,
        context: STEPS + 100,
        prefill_tokens_per_step: 10_000,
        image_cache_bytes: 0,
    };
    let load = move || Ok::<_, Infallible>(toy);
    let engine = EngineHandle::start(options, tokenizer, IMAGE_TOKENS, load);
    RUNTIME.block_on(async {
        let mut states = engine.watch_state();
        states
            .wait_for(|state| *state == State::Ready)
            .await
            .unwrap();
    });
    bencher
        .counter(ItemsCount::new(STEPS))
        .with_inputs(|| {
            control.hold();
            let running = engine.submit(request()).unwrap();
            let waiting: Vec<Generation> = (0..waiting)
                .map(|_| engine.submit(request()).unwrap())
                .collect();
            (running, waiting)
        })
        .bench_local_values(|(mut running, waiting)| {
            control.open();
            RUNTIME.block_on(async {
                while let Some(event) = running.next().await {
                    assert!(!matches!(event, Event::Failed(_)), "{event:?}");
                }
            });
            // They are cancelled by being dropped, which the measurement leaves out.
            waiting
        });
}

fn request() -> Request {
    Request {
        image: Arc::new(Pixels {
            data: vec![1; 3],
            side: 1,
            width: 1,
            height: 1,
            hash: [1; 32],
        }),
        prompt: "caption en".to_owned(),
        max_tokens: MaxTokens::Exactly(STEPS),
        sampling: Sampling::greedy(),
        stop: Vec::new(),
        logprobs: None,
        deadline: None,
    }
}
