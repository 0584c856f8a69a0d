//! The only place that touches the model: runs steps, on the thread that made the model.

use std::time::Instant;

use candle_core::{Result, Tensor};

use super::EngineOptions;
use super::cost_model::CostModel;
use super::image_cache::ImageCache;
use super::out_of_memory;
use super::prefill_batch::{NewSequence, PrefillBatch, Prefilling};
use super::sampler::{Row, fetch_rows};
use super::sequence::SharedOutput;
use crate::models::{AdapterId, DecodeRow, Model, Progress, Resident, reason};

/// A model with its cache, and the prefill that is under way in it.
pub(super) struct Executor<M: Model> {
    model: M,
    cache: M::Cache,
    images: ImageCache,
    batch: Option<PrefillBatch<M>>,
    cost: CostModel,
    vocab_size: usize,
}

/// What a step works on.
pub(super) struct StepInput {
    /// Sequences that begin a prefill batch.
    pub start: Vec<NewSequence>,
    /// Slots of the batch under way whose sequences are still wanted; empty when there is none.
    pub prefill: Vec<usize>,
    /// Sequences that get one more token.
    pub decode: Vec<(DecodeRow, SharedOutput)>,
}

/// What a step gave.
#[derive(Default)]
pub(super) struct StepResult {
    /// The prefill batch is done; its sequences' rows are among `rows`.
    pub prefill_done: bool,
    /// Slot, output and logits of every sequence that gets a token.
    pub rows: Vec<(usize, SharedOutput, Row)>,
}

impl<M: Model> Executor<M> {
    /// # Errors
    /// When the cache does not fit into memory.
    pub(super) fn new(model: M, options: &EngineOptions, vocab_size: usize) -> Result<Self> {
        Ok(Self {
            cache: model.new_cache(options.slots, options.context)?,
            model,
            images: ImageCache::new(options.image_cache_bytes),
            batch: None,
            cost: CostModel::new(options.max_token_gap),
            vocab_size,
        })
    }

    /// Tokens that stand for one image.
    pub(super) fn image_tokens(&self) -> usize {
        self.model.image_tokens()
    }

    /// `reason`, for which a step failed, and more about it where more is known.
    pub(super) fn explain(&self, reason: String) -> String {
        out_of_memory::explained(reason, || self.model.free_memory())
    }

    /// Makes an adapter resident; gives the bytes that it takes, or why it can't be.
    pub(super) fn add_adapter(
        &mut self,
        resident: &Resident,
    ) -> std::result::Result<usize, String> {
        let added = self.model.add_adapter(resident.id, &resident.adapter);
        added.map_err(|error| self.explain(reason(&error)))
    }

    /// Lets go of an adapter.
    pub(super) fn remove_adapter(&mut self, id: AdapterId) {
        self.model.remove_adapter(id);
    }

    /// One step: every sequence that decodes gets its next token, while the prefill batch gets some
    /// layers further, in the vision tower or in the decoder.
    ///
    /// # Errors
    /// When the model fails. It must not be used again then.
    pub(super) fn step(&mut self, input: StepInput) -> Result<StepResult> {
        let StepInput {
            start,
            prefill,
            decode,
        } = input;
        let began = Instant::now();
        if prefill.is_empty() || !start.is_empty() {
            self.drop_batch()?;
        }
        if !start.is_empty() {
            let batch = PrefillBatch::begin(&self.model, &mut self.images, start)?;
            self.batch = Some(batch);
        }
        let prefilling = match self.batch.take() {
            Some(PrefillBatch::Encoding(mut encoding)) => {
                let budget = self.cost.encode_budget();
                let progress = encoding.advance(&self.model, budget)?;
                self.batch = Some(match progress.done {
                    false => PrefillBatch::Encoding(encoding),
                    true => encoding.finish(&self.model, &mut self.images, &prefill)?,
                });
                self.cost.encoded(progress.token_layers, began.elapsed());
                None
            }
            Some(PrefillBatch::Prefilling(prefilling)) => Some(prefilling),
            None => None,
        };
        if decode.is_empty() && prefilling.is_none() {
            return Ok(StepResult::default());
        }
        self.decode_and_prefill(decode, prefilling)
    }

    /// Nobody waits for the batch any more. What is not finite in its unfinished prefixes must not
    /// spoil the next sequences in their slots.
    fn drop_batch(&mut self) -> Result<()> {
        if let Some(PrefillBatch::Prefilling(prefilling)) = self.batch.take() {
            for (slot, _) in prefilling.sequences {
                self.model.clear_slot(&mut self.cache, slot)?;
            }
        }
        Ok(())
    }

    fn decode_and_prefill(
        &mut self,
        decode: Vec<(DecodeRow, SharedOutput)>,
        mut prefilling: Option<Prefilling<M>>,
    ) -> Result<StepResult> {
        let (began, decodes) = (Instant::now(), !decode.is_empty());
        let budget = self.cost.prefill_budget();
        let work = prefilling.as_mut();
        let work = work.map(|prefilling| (&mut prefilling.work, budget));
        let decode_rows: Vec<DecodeRow> = decode.iter().map(|(row, _)| *row).collect();
        let output = self.model.step(&mut self.cache, work, &decode_rows)?;

        let prefill_done = output.prefill.is_some_and(|progress| progress.done);
        let mut sequences: Vec<(usize, SharedOutput)> = decode
            .into_iter()
            .map(|(row, output)| (row.slot, output))
            .collect();
        match prefilling {
            Some(prefilling) if prefill_done => sequences.extend(prefilling.sequences),
            Some(prefilling) => self.batch = Some(PrefillBatch::Prefilling(prefilling)),
            None => {}
        }
        let rows = match output.logits {
            Some(logits) => self.rows(&logits, &sequences)?,
            None => Vec::new(),
        };
        let took = began.elapsed();
        match output.prefill {
            Some(Progress { token_layers, .. }) => {
                self.cost.prefilled(token_layers, decodes, took);
            }
            None => self.cost.decoded(took),
        }
        Ok(StepResult {
            prefill_done,
            rows: sequences
                .into_iter()
                .zip(rows)
                .map(|((slot, output), row)| (slot, output, row))
                .collect(),
        })
    }

    /// Fetches what the samplers need of `logits`, whose rows belong to `sequences`.
    fn rows(&mut self, logits: &Tensor, sequences: &[(usize, SharedOutput)]) -> Result<Vec<Row>> {
        let expected = (sequences.len(), self.vocab_size);
        if logits.dims2()? != expected {
            candle_core::bail!(
                "the logits' shape is {:?}, and {expected:?} was expected (sequences, tokens)",
                logits.dims()
            );
        }
        let wanted: Vec<_> = sequences
            .iter()
            .map(|(_, output)| output.lock().wanted())
            .collect();
        let rows = fetch_rows(logits, &wanted)?;
        for ((slot, _), row) in sequences.iter().zip(&rows) {
            if !row.likeliest.finite {
                // What this sequence left behind must not spoil the next one in its slot.
                self.model.clear_slot(&mut self.cache, *slot)?;
            }
        }
        Ok(rows)
    }
}
