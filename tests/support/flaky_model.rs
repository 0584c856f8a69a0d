//! A model with faults on purpose.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use paligemma_server::checkpoint::Adapter;
use paligemma_server::models::{
    AdapterId, Budget, DecodeRow, Model, Picture, Prefix, Progress, StepOutput,
};

/// A model around whose steps something else happens.
pub struct Flaky<M> {
    pub model: M,
    /// Called before each step.
    pub before: Arc<dyn Fn() + Send + Sync>,
    /// Called after each step, when the cache has been written, as a device may fail. What it returns
    /// is the step's outcome.
    pub after: Arc<dyn Fn() -> Result<()> + Send + Sync>,
}

impl<M: Model> Model for Flaky<M> {
    type Encode = M::Encode;
    type Prefill = M::Prefill;
    type Cache = M::Cache;

    fn image_tokens(&self) -> usize {
        self.model.image_tokens()
    }

    fn new_cache(&self, slots: usize, context: usize) -> Result<M::Cache> {
        self.model.new_cache(slots, context)
    }

    fn clear_slot(&self, cache: &mut M::Cache, slot: usize) -> Result<()> {
        self.model.clear_slot(cache, slot)
    }

    fn add_adapter(&mut self, id: AdapterId, adapter: &Adapter) -> Result<usize> {
        self.model.add_adapter(id, adapter)
    }

    fn remove_adapter(&mut self, id: AdapterId) {
        self.model.remove_adapter(id);
    }

    fn begin_encode(&self, images: &[Picture<'_>]) -> Result<M::Encode> {
        self.model.begin_encode(images)
    }

    fn advance_encode(&self, encode: &mut M::Encode, budget: Budget) -> Result<Progress> {
        self.model.advance_encode(encode, budget)
    }

    fn finish_encode(&self, encode: M::Encode) -> Result<Vec<Tensor>> {
        self.model.finish_encode(encode)
    }

    fn begin_prefill(&self, prefixes: &[Prefix<'_>]) -> Result<M::Prefill> {
        self.model.begin_prefill(prefixes)
    }

    fn step(
        &self,
        cache: &mut M::Cache,
        prefill: Option<(&mut M::Prefill, Budget)>,
        decode: &[DecodeRow],
    ) -> Result<StepOutput> {
        (self.before)();
        let output = self.model.step(cache, prefill, decode)?;
        (self.after)()?;
        Ok(output)
    }
}
