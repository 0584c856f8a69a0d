//! A model whose calls are marked in the driver's counts.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Error, Result, Tensor};
use paligemma_server::checkpoint::Adapter;
use paligemma_server::models::{
    AdapterId, Budget, DecodeRow, Model, Picture, Prefix, Progress, StepOutput,
};

use crate::counts::{Counts, FakeDriver};

/// A stage of the engine's work on a batch. It lasts until the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Load,
    /// The vision tower, over so many images.
    Encode(usize),
    /// The decoder, over so many prefixes, and their first tokens.
    Prefill(usize),
    /// One token for so many rows.
    Decode(usize),
    Other,
}

/// The marks of one engine. Clones share them.
#[derive(Clone)]
pub struct Recorder {
    driver: FakeDriver,
    marks: Arc<Mutex<Vec<Mark>>>,
}

#[derive(Debug)]
struct Mark {
    stage: Stage,
    /// The model's steps in the stage.
    steps: usize,
    /// What had been counted when it began.
    counts: Counts,
}

impl Recorder {
    pub fn new(driver: FakeDriver) -> Self {
        let marks = Arc::default();
        Self { driver, marks }
    }

    pub fn begin(&self, stage: Stage) -> Result<()> {
        let counts = self.driver.counts().map_err(Error::wrap)?;
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.push(Mark {
            stage,
            steps: 0,
            counts,
        });
        Ok(())
    }

    fn step(&self) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = marks.last_mut() {
            mark.steps += 1;
        }
    }

    /// What a stage took when it last came, in one step. Of decoding that is a step that another one follows.
    pub fn last(&self, stage: Stage) -> Option<Counts> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let follows = |next: &Mark| match stage {
            Stage::Decode(_) => next.stage == stage,
            _ => true,
        };
        let mut pairs = marks.windows(2).rev();
        let pair = pairs.find(|pair| {
            let whole = stage == Stage::Load || pair[0].steps == 1;
            pair[0].stage == stage && whole && follows(&pair[1])
        })?;
        Some(&pair[1].counts - &pair[0].counts)
    }
}

/// A model that tells a recorder what it is asked for.
pub struct Recorded<M> {
    pub model: M,
    pub recorder: Recorder,
}

impl<M: Model> Model for Recorded<M> {
    type Encode = M::Encode;
    type Prefill = M::Prefill;
    type Cache = M::Cache;

    fn image_tokens(&self) -> usize {
        self.model.image_tokens()
    }

    fn new_cache(&self, slots: usize, context: usize) -> Result<M::Cache> {
        self.recorder.begin(Stage::Other)?;
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
        self.recorder.begin(Stage::Encode(images.len()))?;
        self.model.begin_encode(images)
    }

    fn advance_encode(&self, encode: &mut M::Encode, budget: Budget) -> Result<Progress> {
        self.recorder.step();
        self.model.advance_encode(encode, budget)
    }

    fn finish_encode(&self, encode: M::Encode) -> Result<Vec<Tensor>> {
        self.model.finish_encode(encode)
    }

    fn begin_prefill(&self, prefixes: &[Prefix<'_>]) -> Result<M::Prefill> {
        self.recorder.begin(Stage::Prefill(prefixes.len()))?;
        self.model.begin_prefill(prefixes)
    }

    fn step(
        &self,
        cache: &mut M::Cache,
        prefill: Option<(&mut M::Prefill, Budget)>,
        decode: &[DecodeRow],
    ) -> Result<StepOutput> {
        match (&prefill, decode) {
            (None, rows) => self.recorder.begin(Stage::Decode(rows.len()))?,
            (Some(_), []) => {}
            (Some(_), _) => self.recorder.begin(Stage::Other)?,
        }
        self.recorder.step();
        self.model.step(cache, prefill, decode)
    }
}
