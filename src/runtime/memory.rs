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

/// What a model takes of a GPU's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    pub weights: u64,
    /// All that are resident at the start.
    pub adapters: u64,
    /// Beside weights and cache: the largest prefill, the largest batch of images, logits, features of
    /// images that are kept.
    pub work: u64,
    /// Each slot's part of the KV cache, and its logits.
    pub slot: u64,
}

/// The model or its slots are too large.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "the model does not fit into the GPU's memory: {free} are free, and it needs {needed} ({weights} of weights as {format}, {adapters} of adapters, {work} to work in, {slots} slots of {slot} each); {advice}"
)]
pub struct DoesNotFit {
    free: ByteSize,
    needed: ByteSize,
    weights: ByteSize,
    format: WeightFormat,
    adapters: ByteSize,
    work: ByteSize,
    slots: usize,
    slot: ByteSize,
    advice: String,
}

impl Needs {
    /// Of a model with so many weights, beside which adapters keep so many numbers.
    pub fn new(
        config: &ModelConfig,
        weights: u64,
        adapters: usize,
        format: WeightFormat,
        context: usize,
        batch_tokens: usize,
        image_cache: u64,
    ) -> Self {
        let value = format.activation_dtype().size_in_bytes();
        let (text, vision) = (&config.text, &config.vision);
        let rows = batch_tokens.max(context);
        // Of each row: the gate and the up projection and their product, and what the residual stream,
        // queries, keys and values take, some of them twice.
        let of_row = 3 * text.intermediate_size + 10 * text.hidden_size;
        let patches = batch_tokens.max(config.image_tokens());
        let of_patch = 3 * vision.intermediate_size + 10 * vision.hidden_size;
        // Scores of prefixes or images, so many at once, in f32 and as weights.
        let scores = (1usize << 25) * (4 + value);
        // In 8 bits, weights are unpacked to bf16 one after the other.
        let unpacked = match format {
            WeightFormat::Q8_0 => 2 * 2 * text.intermediate_size * text.hidden_size,
            WeightFormat::F32 | WeightFormat::Bf16 | WeightFormat::Q4K => 0,
        };
        let logits = text.vocab_size * (4 + value);
        let largest = (rows * of_row).max(patches * of_patch) * value + scores + unpacked;
        Self {
            weights: (weights as f64 * format.bytes_per_weight()) as u64,
            adapters: (adapters * value) as u64,
            work: OVERHEAD + largest as u64 + image_cache,
            slot: (text
                .cache_shape(1, context)
                .bytes(format.activation_dtype())
                + logits) as u64,
        }
    }

    /// What is taken whatever the number of slots.
    fn without_slots(&self) -> u64 {
        self.weights + self.adapters + self.work
    }

    /// How many slots fit into `free` bytes: those that were asked for, or else as many as are worth it.
    ///
    /// # Errors
    /// When not even one fits, or not those that were asked for.
    pub fn slots(
        &self,
        free: u64,
        asked: Option<usize>,
        format: WeightFormat,
    ) -> Result<usize, DoesNotFit> {
        let left = free.saturating_sub(self.without_slots());
        let fit = usize::try_from(left / self.slot).unwrap_or(usize::MAX);
        let wanted = asked.unwrap_or_else(|| AUTO_SLOTS_GPU.min(fit).max(1));
        if wanted <= fit {
            return Ok(wanted);
        }
        let smaller = match format {
            WeightFormat::F32 => "use dtype bf16, a smaller model, or device cpu",
            WeightFormat::Bf16 => "use dtype q8_0, a smaller model, or device cpu",
            WeightFormat::Q8_0 | WeightFormat::Q4K => "use a smaller model, or device cpu",
        };
        let bytes = |count: u64| ByteSize(count);
        Err(DoesNotFit {
            free: bytes(free),
            needed: bytes(self.without_slots() + self.slot * wanted as u64),
            weights: bytes(self.weights),
            format,
            adapters: bytes(self.adapters),
            work: bytes(self.work),
            slots: wanted,
            slot: bytes(self.slot),
            advice: match fit {
                0 => smaller.to_owned(),
                fit => format!("{fit} slots fit, or a smaller context; or {smaller}"),
            },
        })
    }
}

/// The slots of a model that needs so much.
///
/// # Errors
/// When it does not fit, or the driver does not say what is free.
pub(super) fn slots(
    placement: Placement,
    needs: Needs,
    asked: Option<usize>,
) -> Result<usize, super::RuntimeError> {
    let Some(gpu) = placement.gpu else {
        return Ok(asked.unwrap_or(AUTO_SLOTS_CPU));
    };
    let card = card(gpu).map_err(|error| super::RuntimeError::Card(error.to_string()))?;
    let slots = needs.slots(card.free_bytes as u64, asked, placement.format)?;
    tracing::info!(
        card = card.name,
        free = %ByteSize(card.free_bytes as u64),
        weights = %ByteSize(needs.weights),
        slots,
        "fits into the GPU's memory"
    );
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn needs() -> Needs {
        Needs {
            weights: 6 * GIB,
            adapters: GIB / 2,
            work: GIB + GIB / 2,
            slot: GIB / 8,
        }
    }

    #[test]
    fn as_many_slots_as_fit_and_are_worth_it() {
        let fit = |free, asked| needs().slots(free, asked, WeightFormat::Bf16);
        assert_eq!(fit(80 * GIB, None), Ok(64));
        assert_eq!(fit(80 * GIB, Some(200)), Ok(200));
        assert_eq!(fit(9 * GIB, None), Ok(8));
        assert_eq!(fit(9 * GIB, Some(4)), Ok(4));
    }

    #[test]
    fn a_refusal_says_what_would_fit() {
        let refused = needs().slots(9 * GIB, Some(16), WeightFormat::Bf16);
        let text = refused.unwrap_err().to_string();
        for part in [
            "9.0 GiB are free",
            "needs 10.0 GiB",
            "6.0 GiB of weights as bf16",
            "512.0 MiB of adapters",
            "8 slots fit",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = needs().slots(7 * GIB, None, WeightFormat::Bf16);
        let text = text.unwrap_err().to_string();
        assert!(text.contains("use dtype q8_0"), "{text}");
    }
}
