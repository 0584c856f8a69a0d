//! Whether a model fits into a GPU's memory, and how many slots with it.

use bytesize::ByteSize;
use thiserror::Error;

use crate::kernels::{Placement, WeightFormat, card};
use crate::models::ModelConfig;

/// Slots when nobody says: as many as two cores serve well, and as many as a GPU's steps take at no
/// great cost.
const AUTO_SLOTS_CPU: usize = 8;
const AUTO_SLOTS_GPU: usize = 64;

/// What CUDA, cuBLAS and the kernels take for themselves.
const OVERHEAD: u64 = 1 << 30;

/// Scores of prefixes or images that are computed together: `SCORES` in kernels/src/cuda/launch.rs.
const SCORES: usize = 1 << 25;

/// Each takes less memory for weights than the one before.
const FORMATS: [WeightFormat; 4] = [
    WeightFormat::F32,
    WeightFormat::Bf16,
    WeightFormat::Q8_0,
    WeightFormat::Q4K,
];

/// What the memory that a model takes depends on, beside the format of its weights.
#[derive(Debug, Clone, Copy)]
pub struct Sizes<'a> {
    pub config: &'a ModelConfig,
    /// How many numbers all weights are.
    pub weights: u64,
    /// The same of the adapters that are resident at the start.
    pub adapters: u64,
    /// Requests may ask for adapters, now or later.
    pub adapts: bool,
    /// Decode steps are recorded.
    pub records: bool,
    /// Tokens of a slot.
    pub context: usize,
    /// Tokens that are prefilled together.
    pub batch_tokens: usize,
    /// Bytes for features of images that are kept.
    pub image_cache: u64,
}

/// What a model takes of a GPU's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    pub weights: u64,
    /// All that are resident at the start.
    pub adapters: u64,
    /// Beside weights and cache: the largest prefill, the largest batch of images, features of images
    /// that are kept.
    pub work: u64,
    /// Each slot's part of the KV cache, and its logits: products, f32, and a recorded step's own.
    pub slot: u64,
}

/// The model or its slots are too large.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "the model does not fit into the GPU's memory: {free} are free, and it needs {needed} ({weights} of weights as {format}, {adapters} of adapters, {work} to work in, {slots}); {advice}"
)]
pub struct DoesNotFit {
    free: ByteSize,
    needed: ByteSize,
    weights: ByteSize,
    format: WeightFormat,
    adapters: ByteSize,
    work: ByteSize,
    slots: String,
    advice: String,
}

impl Needs {
    /// Of a model whose weights are in `format`.
    pub fn new(sizes: &Sizes<'_>, format: WeightFormat) -> Self {
        let value = format.activation_dtype().size_in_bytes();
        let (text, vision) = (&sizes.config.text, &sizes.config.vision);
        let rows = sizes.batch_tokens.max(sizes.context);
        // Of each row: the gate and the up projection and their product, and what the residual stream,
        // queries, keys and values take, some of them twice.
        let of_row = 3 * text.intermediate_size + 10 * text.hidden_size;
        // An adapter adds to the gate and the up projection before they are multiplied: these, what is
        // added, and the sum are there at the same time.
        let of_adapter = match sizes.adapts {
            true => 3 * text.intermediate_size,
            false => 0,
        };
        let patches = sizes.batch_tokens.max(sizes.config.image_tokens());
        let of_patch = 3 * vision.intermediate_size + 10 * vision.hidden_size;
        // In f32 and as weights; an image's own are never split.
        let scores = SCORES.max(vision.patches().pow(2)) * (4 + value);
        // Weights are unpacked one after the other: from 8 bits to bf16, and from 4 bits to f32.
        let unpacked = match format {
            WeightFormat::Q8_0 => 2,
            WeightFormat::Q4K => 4,
            WeightFormat::F32 | WeightFormat::Bf16 => 0,
        };
        let unpacked = unpacked * 2 * text.intermediate_size * text.hidden_size;
        let largest = (rows * (of_row + of_adapter)).max(patches * of_patch) * value;
        let table = (text.vocab_size * text.hidden_size) as u64;
        let bytes = |numbers: u64, format: WeightFormat| numbers as f64 * format.bytes_per_weight();
        let others = sizes.weights.saturating_sub(table);
        let recorded = if sizes.records { 4 } else { 0 };
        let logits = text.vocab_size * (4 + value + recorded);
        let cache = text.cache_shape(1, sizes.context);
        Self {
            weights: (bytes(others, format) + bytes(table, format.for_token_table())) as u64,
            adapters: sizes.adapters * value as u64,
            work: sizes
                .image_cache
                .saturating_add(OVERHEAD + (largest + scores + unpacked) as u64),
            slot: (cache.bytes(format.activation_dtype()) + logits) as u64,
        }
    }

    /// All of it, with so many slots.
    fn with_slots(&self, slots: usize) -> u64 {
        let others = self.weights + self.adapters + self.slot * slots as u64;
        self.work.saturating_add(others)
    }

    /// How many slots fit into `free` bytes.
    fn fit(&self, free: u64) -> usize {
        let left = free.saturating_sub(self.with_slots(0));
        usize::try_from(left / self.slot).unwrap_or(usize::MAX)
    }
}

impl Sizes<'_> {
    /// How many slots the model gets in `free` bytes: those that were asked for, or else as many as are
    /// worth it. `runs` tells in which other formats it could be.
    ///
    /// # Errors
    /// When not even one fits, or not those that were asked for.
    fn slots(
        &self,
        free: u64,
        asked: Option<usize>,
        format: WeightFormat,
        runs: impl Fn(WeightFormat) -> bool,
    ) -> Result<usize, DoesNotFit> {
        let needs = Needs::new(self, format);
        let fit = needs.fit(free);
        let wanted = asked.unwrap_or_else(|| AUTO_SLOTS_GPU.min(fit).max(1));
        if wanted <= fit {
            return Ok(wanted);
        }
        let others = FORMATS.into_iter().skip_while(|other| *other != format);
        let smaller: Vec<WeightFormat> = others.skip(1).filter(|it| runs(*it)).collect();
        let most = asked.unwrap_or(AUTO_SLOTS_GPU);
        Err(DoesNotFit {
            free: ByteSize(free),
            needed: ByteSize(needs.with_slots(wanted)),
            weights: ByteSize(needs.weights),
            format,
            adapters: ByteSize(needs.adapters),
            work: ByteSize(needs.work),
            slots: match (wanted, ByteSize(needs.slot)) {
                (1, slot) => format!("1 slot of {slot}"),
                (wanted, slot) => format!("{wanted} slots of {slot} each"),
            },
            advice: self.advice(free, (wanted, most), format, &smaller),
        })
    }

    /// What would fit instead of `wanted` slots, of which no more than `most` are worth it.
    fn advice(
        &self,
        free: u64,
        (wanted, most): (usize, usize),
        format: WeightFormat,
        smaller: &[WeightFormat],
    ) -> String {
        let fitting = |slots: usize| match slots {
            1 => "1 slot fits".to_owned(),
            slots => format!("{slots} slots fit"),
        };
        let mut advice = Vec::new();
        let fit = Needs::new(self, format).fit(free);
        if fit > 0 {
            advice.push(fitting(fit));
        }
        let in_format = |format: &WeightFormat| {
            let needs = Needs::new(self, *format);
            (*format, needs.fit(free).min(most), needs.with_slots(1))
        };
        let others: Vec<_> = smaller.iter().map(in_format).collect();
        let better = others.iter().find(|(_, slots, _)| *slots > fit);
        let smallest = others.iter().min_by_key(|(_, _, bytes)| bytes);
        match (better, smallest) {
            (Some((format, slots, _)), _) => {
                advice.push(format!("with dtype {format}, {}", fitting(*slots)));
            }
            (None, Some((format, _, bytes))) if fit == 0 => {
                let bytes = ByteSize(*bytes);
                advice.push(format!(
                    "no smaller dtype fits: {format} needs {bytes} with 1 slot"
                ));
            }
            _ => {}
        }
        let least = Self {
            // One token of prompt, the newline after it, and one token of answer.
            context: self.config.image_tokens() + 3,
            batch_tokens: 1,
            image_cache: 0,
            ..*self
        };
        if Needs::new(&least, format).fit(free) >= wanted {
            advice.push(format!(
                "with a smaller context, prefill_batch_tokens or image_cache, {} can fit",
                many_slots(wanted)
            ));
        }
        if fit == 0 {
            let or = if advice.is_empty() { "" } else { "or " };
            advice.push(format!("{or}use a smaller model, or device cpu"));
        }
        advice.join("; ")
    }
}

fn many_slots(slots: usize) -> String {
    match slots {
        1 => "1 slot".to_owned(),
        slots => format!("{slots} slots"),
    }
}

/// The slots of a model of these sizes.
///
/// # Errors
/// When it does not fit, or the driver does not say what is free.
pub(super) fn slots(
    placement: Placement,
    sizes: &Sizes<'_>,
    asked: Option<usize>,
) -> Result<usize, super::RuntimeError> {
    let Some(gpu) = placement.gpu else {
        return Ok(asked.unwrap_or(AUTO_SLOTS_CPU));
    };
    let card = card(gpu).map_err(|error| super::RuntimeError::Card(error.to_string()))?;
    let runs = |format| format != WeightFormat::Bf16 || card.has_bf16;
    let slots = sizes.slots(card.free_bytes as u64, asked, placement.format, runs)?;
    let needs = Needs::new(sizes, placement.format);
    tracing::info!(
        card = card.name,
        free = %ByteSize(card.free_bytes as u64),
        needed = %ByteSize(needs.with_slots(slots)),
        weights = %ByteSize(needs.weights),
        slots,
        "fits into the GPU's memory"
    );
    Ok(slots)
}

#[cfg(test)]
mod tests;
