//! A group of requests whose images and prefixes are computed together, some layers at a time.

use std::collections::HashMap;
use std::time::Instant;

use candle_core::{Result, Tensor};

use super::answer::Answer;
use super::image_cache::ImageCache;
use super::scheduler::Limits;
use crate::models::{Model, Prefix};
use crate::telemetry::metrics;

/// Where a wave stands.
pub(super) enum Wave<M: Model> {
    /// New images are in the vision tower.
    Encoding(Encoding<M>),
    /// All images' features are there, and the prefixes are in the decoder.
    Prefilling(Prefilling<M>),
}

pub(super) struct Encoding<M: Model> {
    work: M::Encode,
    /// The images that are encoded, each once.
    images: Vec<[u8; 32]>,
    /// The features that are there already.
    features: HashMap<[u8; 32], Tensor>,
    slots: Vec<usize>,
}

pub(super) struct Prefilling<M: Model> {
    pub work: M::Prefill,
    /// Slots of the prefixes, in the order of their logits.
    pub slots: Vec<usize>,
}

impl<M: Model> Wave<M> {
    /// Begins to work on the answers in `slots`. An image is encoded once, and not at all when its
    /// features are cached.
    pub(super) fn begin(
        model: &M,
        cache: &mut ImageCache,
        answers: &[Option<Answer>],
        slots: Vec<usize>,
    ) -> Result<Self> {
        let mut features = HashMap::new();
        let mut images: Vec<[u8; 32]> = Vec::new();
        let mut pixels: Vec<&[u8]> = Vec::new();
        for (_, answer) in present(answers, &slots) {
            let image = &answer.image;
            if features.contains_key(&image.hash) || images.contains(&image.hash) {
                continue;
            }
            if let Some(cached) = cache.get(&image.hash) {
                features.insert(image.hash, cached);
            } else {
                images.push(image.hash);
                pixels.push(&image.data);
            }
        }
        metrics::wave(slots.len(), images.len());
        if images.is_empty() {
            return Self::prefill(model, answers, slots, &features);
        }
        Ok(Self::Encoding(Encoding {
            work: model.begin_encode(&pixels)?,
            images,
            features,
            slots,
        }))
    }

    /// Begins the prefill of those `slots` whose answers are still wanted.
    fn prefill(
        model: &M,
        answers: &[Option<Answer>],
        slots: Vec<usize>,
        features: &HashMap<[u8; 32], Tensor>,
    ) -> Result<Self> {
        let prefixes: Vec<Prefix<'_>> = present(answers, &slots)
            .map(|(slot, answer)| Prefix {
                slot,
                features: &features[&answer.image.hash],
                tokens: &answer.prompt,
                generated: &[],
            })
            .collect();
        Ok(Self::Prefilling(Prefilling {
            work: model.begin_prefill(&prefixes)?,
            slots: prefixes.iter().map(|prefix| prefix.slot).collect(),
        }))
    }
}

impl<M: Model> Encoding<M> {
    /// Runs as many vision layers as one step may; goes on to the prefill after the last.
    pub(super) fn advance(
        mut self,
        model: &M,
        limits: &Limits,
        cache: &mut ImageCache,
        answers: &mut [Option<Answer>],
    ) -> Result<Wave<M>> {
        if !model.advance_encode(&mut self.work, limits.budget())? {
            return Ok(Wave::Encoding(self));
        }
        let encoded = model.finish_encode(self.work)?;
        for (hash, features) in self.images.iter().zip(encoded) {
            cache.insert(*hash, &features);
            self.features.insert(*hash, features);
        }
        metrics::image_cache(cache.bytes());
        let now = Instant::now();
        for slot in &self.slots {
            if let Some(answer) = &mut answers[*slot]
                && self.images.contains(&answer.image.hash)
            {
                answer.encoded(now);
            }
        }
        Wave::prefill(model, answers, self.slots, &self.features)
    }
}

/// The answers in `slots` that are still wanted.
fn present<'a>(
    answers: &'a [Option<Answer>],
    slots: &'a [usize],
) -> impl Iterator<Item = (usize, &'a Answer)> {
    let answer = |&slot: &usize| Some((slot, answers[slot].as_ref()?));
    slots.iter().filter_map(answer)
}
