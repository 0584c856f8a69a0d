//! Decode steps of a GPU that were recorded once and are then queued with one call.
//!
//! A step of one row is about a hundred launches of some microseconds each, and telling them to the
//! driver may take the processor longer than they take the GPU. Steps of as many rows that reach as far
//! into the same cache are the same launches, so these are recorded.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// Whether decode steps are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recording {
    /// Nobody asked for it, or the model is not on a GPU.
    Off,
    /// They are; this many so far.
    On { steps: usize },
    /// They are not any more, since recorded steps gave other numbers than queued ones.
    Differs,
    /// They are not any more, since the device refused, in its own words.
    Failed(String),
}

/// The steps of one model.
#[derive(Debug)]
pub(super) struct RecordedSteps {
    state: Recording,
    /// f32 `[slots, vocab]`: where every step leaves its logits, in the first rows.
    logits: Option<Tensor>,
    /// `None`: a step like that was queued once, so that its kernels are loaded.
    steps: LruCache<Key, Option<RecordedStep>>,
}

/// One step, and the memory that it reads and writes.
#[derive(Debug)]
struct RecordedStep {
    decoding: Decoding,
    /// f32 `[slots, vocab]`, of which it writes the first rows; others write them, too.
    logits: Tensor,
    graph: Graph,
}

impl PaliGemma {
    /// Records decode steps, or not; on a GPU whose stream is the model's own. With `auto` only if a few of
    /// them have the same bits recorded and queued launch by launch. What the device refuses to record is
    /// queued launch by launch from then on.
    ///
    /// # Errors
    /// When the device fails at what is not recorded.
    pub fn record_steps(&mut self, choice: GraphChoice) -> Result<()> {
        let record = choice != GraphChoice::Off && self.device.is_cuda();
        self.recorded = Mutex::new(RecordedSteps::new(record));
        if record && choice == GraphChoice::Auto {
            let agree = self.recorded_steps_agree()?;
            let mut recorded = self.recorded_steps();
            match (agree, recorded.state()) {
                // Those that were compared are of no more use.
                (true, Recording::On { .. }) => *recorded = RecordedSteps::new(true),
                (false, Recording::On { .. }) => recorded.stop(Recording::Differs),
                // Already stopped, and told.
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether decode steps are recorded.
    pub fn recording(&self) -> Recording {
        self.recorded_steps().state()
    }

    fn recorded_steps(&self) -> MutexGuard<'_, RecordedSteps> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether steps have the same bits recorded, when they are repeated, and queued launch by launch.
    fn recorded_steps_agree(&mut self) -> Result<bool> {
        // The first has the most, so that all leave their logits in the same memory.
        for rows in [8, 2, 1] {
            let recorded = self.first_steps(rows)?;
            let off = Mutex::new(RecordedSteps::new(false));
            let steps = std::mem::replace(&mut self.recorded, off);
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

    /// The logits of a step that was recorded, or is now, f32 `[rows, vocab]`, which the next step overwrites;
    /// `None` when it is to be computed.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn repeat(&self, cache: &KvCache, decoding: &Decoding) -> Result<Option<Tensor>> {
        if !decoding.batch.adapters().is_empty() {
            return Ok(None);
        }
        let compute = |Decoding { x, batch }: &Decoding| {
            let x = self.run(x, 0..self.config.text.layers(), batch, cache)?;
            self.text
                .logits(&x, &Batch::of_rows(batch.rows()), self.vocab)
        };
        let mut recorded = self.recorded_steps();
        recorded.run(cache, decoding, self.vocab, compute)
    }
}

impl RecordedSteps {
    /// None yet; none ever unless they are to be `recorded`.
    pub(super) fn new(recorded: bool) -> Self {
        Self {
            state: match recorded {
                true => Recording::On { steps: 0 },
                false => Recording::Off,
            },
            logits: None,
            steps: LruCache::new(MOST),
        }
    }

    fn state(&self) -> Recording {
        match &self.state {
            Recording::On { .. } => {
                let steps = self.steps.iter().filter(|(_, step)| step.is_some());
                Recording::On {
                    steps: steps.count(),
                }
            }
            other => other.clone(),
        }
    }

    /// Records no more, and lets go of all.
    fn stop(&mut self, why: Recording) {
        match &why {
            Recording::Failed(reason) => {
                tracing::warn!(
                    "recording decode steps failed, so they are queued launch by launch: {reason}"
                );
            }
            _ => tracing::warn!(
                "recorded decode steps gave other numbers than queued ones, so none is recorded"
            ),
        }
        *self = Self::new(false);
        self.state = why;
    }

    /// The logits of the rows of `decoding`. `None`: the caller is to compute them this time. `compute` queues
    /// what comes after the embedding, and gives logits.
    fn run(
        &mut self,
        cache: &KvCache,
        decoding: &Decoding,
        vocab: usize,
        compute: impl FnOnce(&Decoding) -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        let (Recording::On { .. }, Some(reach)) = (&self.state, decoding.batch.reach()) else {
            return Ok(None);
        };
        let key = Key {
            cache: cache.layer(0).k.id(),
            rows: decoding.batch.rows(),
            reach,
        };
        if !self.steps.contains(&key) {
            self.steps.put(key, None);
            return Ok(None);
        }
        match self.repeated(key, cache, decoding, vocab, compute) {
            Ok(logits) => Ok(Some(logits)),
            // What computes them next tells whether it is the device that fails.
            Err(error) => {
                self.stop(Recording::Failed(reason(&error)));
                Ok(None)
            }
        }
    }

    /// Records the step, or repeats what was recorded, and gives its logits.
    fn repeated(
        &mut self,
        key: Key,
        cache: &KvCache,
        decoding: &Decoding,
        vocab: usize,
        compute: impl FnOnce(&Decoding) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let logits = self.logits(cache, vocab, decoding)?;
        let step = match self.steps.get_or_insert_mut(key, || None) {
            Some(step) => {
                step.decoding.overwrite(decoding)?;
                step
            }
            new => new.insert(RecordedStep::new(decoding, logits, compute)?),
        };
        step.graph.launch()?;
        step.logits.narrow(0, 0, key.rows)
    }

    /// Where steps of `cache` leave their logits. A recorded step keeps its own, if this becomes larger.
    fn logits(&mut self, cache: &KvCache, vocab: usize, decoding: &Decoding) -> Result<Tensor> {
        let slots = cache.layer(0).k.dim(0)?;
        let large = |logits: &&Tensor| logits.dims()[0] >= slots;
        if let Some(logits) = self.logits.as_ref().filter(large) {
            return Ok(logits.clone());
        }
        let device = decoding.x.device();
        let logits = Tensor::zeros((slots, vocab), DType::F32, device)?;
        Ok(self.logits.insert(logits).clone())
    }
}

impl RecordedStep {
    fn new(
        decoding: &Decoding,
        logits: Tensor,
        compute: impl FnOnce(&Decoding) -> Result<Tensor>,
    ) -> Result<Self> {
        let device = decoding.x.device();
        let graph = Graph::record(device, || logits.slice_set(&compute(decoding)?, 0, 0))?;
        Ok(Self {
            decoding: decoding.clone(),
            logits,
            graph,
        })
    }
}
