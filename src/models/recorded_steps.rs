//! Decode steps of a GPU that were recorded once and are then queued with one call.
//!
//! A step of one row is about a hundred launches of some microseconds each, and telling them to the
//! driver may take the processor longer than they take the GPU. Steps of as many rows that reach as far
//! into the same cache are the same launches, so these are recorded.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Result, Tensor, TensorId, bail};
use lru::LruCache;

use super::decoding::Decoding;
use super::{Model, PaliGemma};
use crate::kernels::{Graph, GraphChoice, reason};
use crate::layers::{Batch, DecodeRow, KvCache};

/// Most steps that are kept; the one that was not used for the longest time gives way.
const MOST: NonZeroUsize = NonZeroUsize::new(256).expect("it is not 0");

/// What tells one recorded step from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    cache: TensorId,
    rows: usize,
    /// In keys.
    reach: usize,
}

/// The steps of one model.
#[derive(Debug)]
pub(super) struct RecordedSteps {
    /// Recording has failed before.
    failed: bool,
    /// `None`: a step like that was queued once, so that its kernels are loaded.
    steps: LruCache<Key, Option<RecordedStep>>,
}

/// One step, and the memory that it reads and writes.
#[derive(Debug)]
struct RecordedStep {
    decoding: Decoding,
    /// f32 `[rows, vocab]`.
    logits: Tensor,
    graph: Graph,
}

impl PaliGemma {
    /// Records decode steps, or not; on a GPU whose stream is the model's own.
    ///
    /// # Errors
    /// When the device fails.
    pub fn record_steps(&mut self, choice: GraphChoice) -> Result<()> {
        let record = choice != GraphChoice::Off && self.device.is_cuda();
        self.recorded = record.then(|| Mutex::new(RecordedSteps::new()));
        if record && choice == GraphChoice::Auto && !self.recorded_steps_agree()? {
            tracing::warn!(
                "recorded decode steps give other numbers than others: none is recorded"
            );
            self.recorded = None;
        }
        Ok(())
    }

    /// Whether steps have the same bits recorded, when they are repeated, and queued launch by launch.
    fn recorded_steps_agree(&mut self) -> Result<bool> {
        for rows in [1, 2, 8] {
            let recorded = self.first_steps(rows)?;
            let steps = self.recorded.take();
            let others = self.first_steps(rows);
            self.recorded = steps;
            if recorded != others? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The logits of some steps of that many sequences, from the first position on.
    fn first_steps(&self, rows: usize) -> Result<Vec<Vec<Vec<f32>>>> {
        const STEPS: usize = 5;
        let mut cache = self.new_cache(rows, STEPS)?;
        let step = |position: usize| {
            let row = |slot| DecodeRow {
                slot,
                position,
                token: (7 * slot + position) as u32 + 2,
                adapter: None,
            };
            let decode: Vec<_> = (0..rows).map(row).collect();
            match self.step(&mut cache, None, &decode)?.logits {
                Some(logits) => logits.to_vec2::<f32>(),
                None => bail!("a decode step gives logits"),
            }
        };
        (0..STEPS).map(step).collect()
    }

    /// The logits of a step that was recorded, or is now; `None` when it is to be computed.
    pub(super) fn repeat(&self, cache: &KvCache, decoding: &Decoding) -> Result<Option<Tensor>> {
        let Some(recorded) = &self.recorded else {
            return Ok(None);
        };
        if !decoding.batch.adapters().is_empty() {
            return Ok(None);
        }
        let compute = |Decoding { x, batch }: &Decoding| {
            let x = self.run(x, 0..self.config.text.layers(), batch, cache)?;
            self.text
                .logits(&x, &Batch::of_rows(batch.rows()), self.vocab)
        };
        let mut recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.run(cache, decoding, self.vocab, compute)
    }
}

impl RecordedSteps {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            failed: false,
            steps: LruCache::new(MOST),
        }
    }

    /// The logits of the rows of `decoding`, f32 `[rows, vocab]`, which the next step of as many rows
    /// overwrites. `None`: the caller is to compute them this time. `compute` queues what comes after the
    /// embedding, and gives logits.
    ///
    /// # Errors
    /// When the device fails.
    fn run(
        &mut self,
        cache: &KvCache,
        decoding: &Decoding,
        vocab: usize,
        compute: impl FnOnce(&Decoding) -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        let Some(reach) = decoding.batch.reach().filter(|_| !self.failed) else {
            return Ok(None);
        };
        let key = Key {
            cache: cache.layer(0).k.id(),
            rows: decoding.batch.rows(),
            reach,
        };
        let Some(known) = self.steps.get_mut(&key) else {
            self.steps.put(key, None);
            return Ok(None);
        };
        let step = match known {
            Some(step) => {
                step.decoding.overwrite(decoding)?;
                step
            }
            None => match RecordedStep::new(decoding, vocab, compute) {
                Ok(step) => known.insert(step),
                Err(error) => {
                    let error = reason(&error);
                    tracing::warn!("decode steps are no longer recorded, which failed: {error}");
                    self.failed = true;
                    return Ok(None);
                }
            },
        };
        step.graph.launch()?;
        Ok(Some(step.logits.clone()))
    }
}

impl RecordedStep {
    fn new(
        decoding: &Decoding,
        vocab: usize,
        compute: impl FnOnce(&Decoding) -> Result<Tensor>,
    ) -> Result<Self> {
        let device = decoding.x.device();
        let logits = Tensor::zeros((decoding.batch.rows(), vocab), DType::F32, device)?;
        let graph = Graph::record(device, || logits.slice_set(&compute(decoding)?, 0, 0))?;
        Ok(Self {
            decoding: decoding.clone(),
            logits,
            graph,
        })
    }
}
