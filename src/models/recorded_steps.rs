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
use crate::kernels::{Graph, GraphChoice, REACH, overwrite, reason};
use crate::layers::{Batch, DecodeLayout, DecodeRow, KvCache};

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
    /// `None`: a step like this was queued once, so that its kernels are loaded.
    steps: LruCache<Key, Option<RecordedStep>>,
}

/// One step, and the memory that it reads and writes.
#[derive(Debug)]
struct RecordedStep {
    /// u32 `[rows]`.
    tokens: Tensor,
    layout: DecodeLayout,
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
    fn recorded_steps_agree(&self) -> Result<bool> {
        const STEPS: usize = 5;
        for rows in [1, 2, 8] {
            let (mut recorded, mut other) =
                (self.new_cache(rows, STEPS)?, self.new_cache(rows, STEPS)?);
            for position in 0..STEPS {
                let row = |slot| DecodeRow {
                    slot,
                    position,
                    token: (7 * slot + position) as u32 + 2,
                    adapter: None,
                };
                let decode: Vec<_> = (0..rows).map(row).collect();
                let both = [
                    self.step(&mut recorded, None, &decode)?,
                    self.compute(&mut other, None, &decode)?,
                ];
                let [recorded, other] = both.map(|output| match output.logits {
                    Some(logits) => logits.to_vec2::<f32>(),
                    None => bail!("a decode step gives logits"),
                });
                if recorded? != other? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The logits of a step that was recorded, or is now; `None` when it is to be computed.
    pub(super) fn repeat(&self, cache: &KvCache, decode: &[DecodeRow]) -> Result<Option<Tensor>> {
        let Some(recorded) = &self.recorded else {
            return Ok(None);
        };
        if decode.is_empty() || decode.iter().any(|row| row.adapter.is_some()) {
            return Ok(None);
        }
        let compute = |tokens: &Tensor, layout: &DecodeLayout| {
            let Decoding { x, batch } = Decoding::of(self, tokens, layout.clone(), decode)?;
            let x = self.run(&x, 0..self.config.text.layers(), &batch, cache)?;
            self.text
                .logits(&x, &Batch::of_rows(decode.len()), self.vocab)
        };
        let mut recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.run(cache, decode, self.vocab, compute)
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

    /// The logits of `rows`, f32 `[rows, vocab]`, which the next step of as many rows overwrites. `None`:
    /// the caller is to compute them this time. `compute` queues a step of tokens u32 `[rows]` and gives
    /// its logits.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn run(
        &mut self,
        cache: &KvCache,
        rows: &[DecodeRow],
        vocab: usize,
        compute: impl FnOnce(&Tensor, &DecodeLayout) -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        if self.failed {
            return Ok(None);
        }
        let keys = rows.iter().map(|row| row.position + 1).max().unwrap_or(0);
        let key = Key {
            cache: cache.layer(0).k.id(),
            rows: rows.len(),
            reach: keys.next_multiple_of(REACH),
        };
        let Some(known) = self.steps.get_mut(&key) else {
            self.steps.put(key, None);
            return Ok(None);
        };
        let step = match known {
            Some(step) => {
                step.overwrite(rows)?;
                step
            }
            None => match RecordedStep::new(cache, rows, vocab, compute) {
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
        cache: &KvCache,
        rows: &[DecodeRow],
        vocab: usize,
        compute: impl FnOnce(&Tensor, &DecodeLayout) -> Result<Tensor>,
    ) -> Result<Self> {
        let device = cache.layer(0).k.device();
        let tokens = Tensor::new(tokens(rows), device)?;
        let layout = DecodeLayout::new(rows, cache, None, device)?;
        let logits = Tensor::zeros((rows.len(), vocab), DType::F32, device)?;
        let graph = Graph::record(device, || {
            logits.slice_set(&compute(&tokens, &layout)?, 0, 0)
        })?;
        Ok(Self {
            tokens,
            layout,
            logits,
            graph,
        })
    }

    fn overwrite(&self, rows: &[DecodeRow]) -> Result<()> {
        overwrite(&self.tokens, &tokens(rows))?;
        self.layout.overwrite(rows)
    }
}

fn tokens(rows: &[DecodeRow]) -> Vec<u32> {
    rows.iter().map(|row| row.token).collect()
}
