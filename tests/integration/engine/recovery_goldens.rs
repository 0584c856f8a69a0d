//! After a failed step, the real model goes on with the reference's tokens.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use candle_core::{Device, Result, Tensor, bail};
use paligemma_server::engine::{EngineHandle, EngineOptions, Generation, State};
use paligemma_server::models::{
    Budget, DecodeRow, KvCache, Model, PaliGemma, Prefix, Pretrained, Progress, StepOutput,
    WeightFormat,
};
use paligemma_test_support::golden::Golden;

use crate::engine::bench::{OPTIONS, answer, state_after};
use crate::engine::goldens::{ask, check};

/// A PaliGemma whose step fails when the count of all steps reaches `fails_at`.
struct Flaky {
    model: PaliGemma,
    steps: Arc<AtomicUsize>,
    fails_at: usize,
    /// Held until every request was submitted.
    all_are_here: Arc<Mutex<()>>,
}

impl Model for Flaky {
    type Encode = <PaliGemma as Model>::Encode;
    type Prefill = <PaliGemma as Model>::Prefill;
    type Cache = KvCache;

    fn image_tokens(&self) -> usize {
        self.model.image_tokens()
    }

    fn new_cache(&self, slots: usize, context: usize) -> Result<KvCache> {
        self.model.new_cache(slots, context)
    }

    fn clear_slot(&self, cache: &mut KvCache, slot: usize) -> Result<()> {
        self.model.clear_slot(cache, slot)
    }

    fn begin_encode(&self, images: &[&[u8]]) -> Result<Self::Encode> {
        self.model.begin_encode(images)
    }

    fn advance_encode(&self, encode: &mut Self::Encode, budget: Budget) -> Result<Progress> {
        self.model.advance_encode(encode, budget)
    }

    fn finish_encode(&self, encode: Self::Encode) -> Result<Vec<Tensor>> {
        self.model.finish_encode(encode)
    }

    fn begin_prefill(&self, prefixes: &[Prefix<'_>]) -> Result<Self::Prefill> {
        self.model.begin_prefill(prefixes)
    }

    fn step(
        &self,
        cache: &mut KvCache,
        prefill: Option<(&mut Self::Prefill, Budget)>,
        decode: &[DecodeRow],
    ) -> Result<StepOutput> {
        drop(self.all_are_here.lock().unwrap());
        let output = self.model.step(cache, prefill, decode)?;
        // After the cache was written, as a device may fail.
        if self.steps.fetch_add(1, Ordering::SeqCst) + 1 == self.fails_at {
            bail!("this step fails");
        }
        Ok(output)
    }
}

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
                let steps = its_steps.clone();
                Ok::<_, paligemma_server::checkpoint::CheckpointError>(Flaky {
                    model,
                    steps,
                    fails_at,
                    all_are_here: gate.clone(),
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
