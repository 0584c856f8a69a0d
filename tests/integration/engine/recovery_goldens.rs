//! After a failed step, the real model goes on with the reference's tokens.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use candle_core::{Device, bail};
use paligemma_server::engine::{EngineHandle, EngineOptions, Generation, State};
use paligemma_server::models::{Pretrained, WeightFormat};
use paligemma_test_support::flaky_model::Flaky;
use paligemma_test_support::golden::Golden;

use crate::engine::bench::{OPTIONS, answer, state_after};
use crate::engine::goldens::{ask, check};

#[tokio::test]
async fn sequences_in_flight_continue_with_the_reference_tokens() {
    for golden in Golden::all() {
        for fails_at in [1, 8, 15] {
            let pretrained = Pretrained::open(&golden.folder).unwrap();
            let options = EngineOptions {
                slots: 4,
                queue: 100,
                context: 400,
                prefill_batch_tokens: 64,
                model_restarts: 1,
                ..OPTIONS
            };
            let (steps, folder) = (Arc::new(AtomicUsize::new(0)), golden.folder.clone());
            let all_are_here = Arc::new(Mutex::new(()));
            let (its_steps, gate) = (steps.clone(), all_are_here.clone());
            let factory = move || {
                let model = Pretrained::open(&folder)?.load(&Device::Cpu, WeightFormat::F32)?;
                let (steps, gate) = (its_steps.clone(), gate.clone());
                Ok::<_, paligemma_server::checkpoint::CheckpointError>(Flaky {
                    model,
                    // Until every request was submitted.
                    before: Arc::new(move || drop(gate.lock().unwrap())),
                    after: Arc::new(move || {
                        match steps.fetch_add(1, Ordering::SeqCst) + 1 == fails_at {
                            true => bail!("this step fails"),
                            false => Ok(()),
                        }
                    }),
                })
            };
            let engine = EngineHandle::start(options, pretrained.tokenizer.clone(), factory);
            assert_eq!(state_after(&engine, State::Loading).await, State::Ready);
            let submit = |case| engine.submit(ask(&golden, &pretrained, case)).unwrap();
            let generations: Vec<Generation> = {
                // A request that comes while the model is built again is refused.
                let _no_step = all_are_here.lock().unwrap();
                golden.cases.iter().map(submit).collect()
            };
            for (case, generation) in golden.cases.iter().zip(generations) {
                check(&golden, &pretrained, case, &answer(generation).await);
            }
            assert!(steps.load(Ordering::SeqCst) > fails_at, "a step failed");
            assert_eq!(engine.state(), State::Ready);
        }
    }
}
