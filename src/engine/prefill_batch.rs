//! Sequences whose images and prefixes are computed together, some layers at a time.
//!
//! By layers, because a prefix is bidirectional: every token of it attends to all of it, so it
//! can't be computed a few tokens at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Result, Tensor};

use super::Answerer;
use super::image_cache::{ImageCache, ImageKey};
use super::sequence::SharedOutput;
use crate::models::{Budget, Model, Picture, Prefix, Progress};
use crate::pixels::Pixels;
use crate::telemetry::metrics;

/// What a prefill needs of one sequence.
pub(super) struct NewSequence {
    pub slot: usize,
    pub image: Arc<Pixels>,
    pub adapter: Option<Answerer>,
    pub prompt: Arc<[u32]>,
    /// What was generated before the model failed and was built again; usually nothing.
    pub generated: Vec<u32>,
    pub output: SharedOutput,
}

impl NewSequence {
    fn image_key(&self) -> ImageKey {
        ImageKey::new(&self.image, self.adapter)
    }
}

/// Where a batch stands.
pub(super) enum PrefillBatch<M: Model> {
    /// New images are in the vision tower.
    Encoding(Encoding<M>),
    /// All images' features are there, and the prefixes are in the decoder.
    Prefilling(Prefilling<M>),
}

pub(super) struct Encoding<M: Model> {
    work: M::Encode,
    /// The images that are encoded, each once.
    images: Vec<ImageKey>,
    /// The features that are there already.
    features: HashMap<ImageKey, Tensor>,
    sequences: Vec<NewSequence>,
}

pub(super) struct Prefilling<M: Model> {
    pub work: M::Prefill,
    /// Slots and outputs of the prefixes, in the order of their logits.
    pub sequences: Vec<(usize, SharedOutput)>,
}

impl<M: Model> PrefillBatch<M> {
    /// Begins to work on `sequences`. An image is encoded once, and not at all when its features
    /// are cached.
    pub(super) fn begin(
        model: &M,
        cache: &mut ImageCache,
        sequences: Vec<NewSequence>,
    ) -> Result<Self> {
        let mut features = HashMap::new();
        let mut images: Vec<ImageKey> = Vec::new();
        let mut pictures: Vec<Picture<'_>> = Vec::new();
        let now = Instant::now();
        for sequence in &sequences {
            sequence.output.lock().trace.started(sequence.slot, now);
            let key = sequence.image_key();
            if features.contains_key(&key) || images.contains(&key) {
                continue;
            }
            if let Some(cached) = cache.get(&key) {
                features.insert(key, cached);
            } else {
                images.push(key);
                pictures.push(Picture {
                    pixels: &sequence.image.data,
                    adapter: key.adapter,
                });
            }
        }
        metrics::prefill_batch(sequences.len(), images.len());
        if images.is_empty() {
            return Self::prefill(model, &sequences, &features);
        }
        Ok(Self::Encoding(Encoding {
            work: model.begin_encode(&pictures)?,
            images,
            features,
            sequences,
        }))
    }

    /// Begins the prefill of `sequences`.
    fn prefill(
        model: &M,
        sequences: &[NewSequence],
        features: &HashMap<ImageKey, Tensor>,
    ) -> Result<Self> {
        let prefixes: Vec<Prefix<'_>> = sequences
            .iter()
            .map(|sequence| Prefix {
                slot: sequence.slot,
                adapter: sequence.adapter.map(|adapter| adapter.id),
                features: &features[&sequence.image_key()],
                tokens: &sequence.prompt,
                generated: &sequence.generated,
            })
            .collect();
        Ok(Self::Prefilling(Prefilling {
            work: model.begin_prefill(&prefixes)?,
            sequences: sequences
                .iter()
                .map(|sequence| (sequence.slot, sequence.output.clone()))
                .collect(),
        }))
    }
}

impl<M: Model> Encoding<M> {
    /// Runs as many layers of the vision tower as `budget` allows.
    pub(super) fn advance(&mut self, model: &M, budget: Budget) -> Result<Progress> {
        model.advance_encode(&mut self.work, budget)
    }

    /// After the last layer: begins the prefill of those sequences whose slots are still `wanted`.
    pub(super) fn finish(
        mut self,
        model: &M,
        cache: &mut ImageCache,
        wanted: &[usize],
    ) -> Result<PrefillBatch<M>> {
        let encoded = model.finish_encode(self.work)?;
        for (image, features) in self.images.iter().zip(encoded) {
            cache.insert(*image, &features);
            self.features.insert(*image, features);
        }
        metrics::image_cache(cache.bytes());
        let now = Instant::now();
        let mut sequences = self.sequences;
        sequences.retain(|sequence| wanted.contains(&sequence.slot));
        for sequence in &sequences {
            if self.images.contains(&sequence.image_key()) {
                sequence.output.lock().trace.encoded(now);
            }
        }
        PrefillBatch::prefill(model, &sequences, &self.features)
    }
}
