//! Models: pixels and token ids in, logits out.
//!
//! The one reason for most of what is here, and in the engine: **PaliGemma's prefix is
//! bidirectional**, every token of image and prompt attends to all of them. So a prefill can't be
//! cut by tokens, as with other models; it is cut by layers. [`Model`] shows how: a prefill and the
//! vision tower advance within a [`Budget`], while every step decodes a token for each sequence
//! that is further on.

mod adapters;
pub mod config;
mod decoding;
pub mod gemma;
mod greedy;
mod mask_decoder;
mod mask_file;
mod paligemma;
mod pretrained;
mod recorded_steps;
pub mod siglip;

use candle_core::{Result, Tensor};

use crate::checkpoint::Adapter;
pub use crate::kernels::{WeightFormat, reason};
pub use crate::layers::{AdapterId, DecodeRow, KvCache};
pub use adapters::{Adapters, Resident};
pub use config::ModelConfig;
pub use greedy::{Answers, EVERYTHING, Question, greedy, waves};
pub use mask_decoder::{MASK_SIDE, MaskDecoder};
pub use mask_file::{demo_mask_decoder, mask_decoder_in, open_mask_decoder};
pub use paligemma::{Encode, PaliGemma, Prefill};
pub use pretrained::Pretrained;
pub use recorded_steps::Recording;

/// One whole prefix: an image and the tokens after it, all attending to all.
#[derive(Debug, Clone, Copy)]
pub struct Prefix<'a> {
    /// The KV cache slot that the sequence owns.
    pub slot: usize,
    pub adapter: Option<AdapterId>,
    /// The image's projected features, `[image_tokens, hidden]`.
    pub features: &'a Tensor,
    /// Token ids from `<bos>` to the final newline.
    pub tokens: &'a [u32],
    /// Tokens that were generated before and follow the prefix causally; none for a new request.
    pub generated: &'a [u32],
}

/// An image that goes through the vision tower.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// RGB, `image_size × image_size × 3`.
    pub pixels: &'a [u8],
    pub adapter: Option<AdapterId>,
}

impl<'a> From<&'a [u8]> for Picture<'a> {
    /// For the base.
    fn from(pixels: &'a [u8]) -> Self {
        let adapter = None;
        Self { pixels, adapter }
    }
}

/// How much of a prefill or of the vision tower one step may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Rows of the stage × its layers.
    pub token_layers: usize,
}

impl Budget {
    /// How many of the `left` layers of a stage with `rows` rows the next step should run: what the
    /// budget allows, but at least one.
    ///
    /// The layers are spread evenly over the steps that they take, so that the last ones don't cost
    /// a step of their own.
    pub fn layers(self, rows: usize, left: usize) -> usize {
        let most = (self.token_layers / rows.max(1)).max(1);
        let steps = left.div_ceil(most).max(1);
        left.div_ceil(steps)
    }
}

/// How far a step brought a prefill or the vision tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Rows of the stage × layers that the step ran.
    pub token_layers: usize,
    /// All layers have run.
    pub done: bool,
}

/// What one step gave.
#[derive(Debug)]
pub struct StepOutput {
    /// f32 `[decode rows, then one row a prefix if the prefill ended in this step; vocab]` on the
    /// model's device, after the final softcap and without the vocabulary's padded rows. `None`
    /// when there is no row. Read them before the next step, which may overwrite them.
    pub logits: Option<Tensor>,
    /// The progress of the prefill, if one was given.
    pub prefill: Option<Progress>,
}

/// What the engine asks of a model. It is made and used on one thread alone.
///
/// The engine measures what [`Self::advance_encode`] and [`Self::step`] cost. So they return once
/// the device has done the work; a step that gives logits need not wait, because fetching them does.
pub trait Model {
    /// Images on their way through the vision tower.
    type Encode;
    /// Prefixes on their way through the decoder.
    type Prefill;
    /// Keys and values of every slot.
    type Cache;

    /// Tokens that stand for one image.
    fn image_tokens(&self) -> usize;

    /// A cache for `slots` sequences of up to `context` tokens, image tokens included.
    fn new_cache(&self, slots: usize, context: usize) -> Result<Self::Cache>;

    /// Bytes of the device's memory that are free; `None` where that is not known.
    fn free_memory(&self) -> Option<u64> {
        None
    }

    /// Forgets what a slot holds. Needed only after non-finite values: a masked position counts
    /// as `0 · value`, which must not be `0 · NaN`.
    fn clear_slot(&self, cache: &mut Self::Cache, slot: usize) -> Result<()>;

    /// Makes an adapter resident; gives the bytes that it takes.
    ///
    /// # Errors
    /// When it does not fit the model. Nothing of it stays then.
    fn add_adapter(&mut self, id: AdapterId, adapter: &Adapter) -> Result<usize>;

    /// Lets go of an adapter.
    fn remove_adapter(&mut self, id: AdapterId);

    /// Starts the vision tower on images.
    fn begin_encode(&self, images: &[Picture<'_>]) -> Result<Self::Encode>;

    /// Runs as many further layers of the vision tower as `budget` allows, at least one.
    fn advance_encode(&self, encode: &mut Self::Encode, budget: Budget) -> Result<Progress>;

    /// The projected features, one tensor `[image_tokens, hidden]` an image.
    fn finish_encode(&self, encode: Self::Encode) -> Result<Vec<Tensor>>;

    /// Starts the prefill of several prefixes together.
    fn begin_prefill(&self, prefixes: &[Prefix<'_>]) -> Result<Self::Prefill>;

    /// One step: every decode row through all layers and, packed beside them, as many further layers
    /// of the prefill as its budget allows, at least one.
    fn step(
        &self,
        cache: &mut Self::Cache,
        prefill: Option<(&mut Self::Prefill, Budget)>,
        decode: &[DecodeRow],
    ) -> Result<StepOutput>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(token_layers: usize, rows: usize, layers: usize) -> Vec<usize> {
        let mut left = layers;
        let mut steps = Vec::new();
        while left > 0 {
            let step = Budget { token_layers }.layers(rows, left);
            steps.push(step);
            left -= step;
        }
        steps
    }

    #[test]
    fn layers_are_spread_evenly_over_the_steps() {
        assert_eq!(steps(1800, 100, 18), [18]);
        assert_eq!(steps(usize::MAX, 100, 18), [18]);
        assert_eq!(steps(1799, 100, 18), [9, 9]);
        assert_eq!(steps(899, 100, 18), [6, 6, 6]);
        assert_eq!(steps(8 * 1024, 1024, 27), [7, 7, 7, 6]);
    }

    #[test]
    fn a_step_runs_a_layer_at_least() {
        assert_eq!(steps(0, 100, 3), [1, 1, 1]);
        assert_eq!(steps(99, 100, 2), [1, 1]);
        assert_eq!(steps(18, 0, 18), [18]);
        assert_eq!(Budget { token_layers: 5 }.layers(1, 0), 0);
    }
}
