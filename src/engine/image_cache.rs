//! Image features that were computed before, by the image's content.

use std::collections::HashMap;

use candle_core::Tensor;

use super::Answerer;
use crate::models::AdapterId;
use crate::pixels::Pixels;

/// What an image's features depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ImageKey {
    hash: [u8; 32],
    /// The adapter to which it looks different.
    pub adapter: Option<AdapterId>,
}

impl ImageKey {
    pub(super) fn new(image: &Pixels, answerer: Option<Answerer>) -> Self {
        let differs = answerer.filter(|it| it.sees_differently);
        Self {
            hash: image.hash,
            adapter: differs.map(|it| it.id),
        }
    }
}

/// Projected image features by what they depend on, within a budget of
/// bytes. What was used longest ago goes first.
#[derive(Debug)]
pub(super) struct ImageCache {
    budget: usize,
    bytes: usize,
    uses: u64,
    entries: HashMap<ImageKey, Entry>,
}

#[derive(Debug)]
struct Entry {
    features: Tensor,
    bytes: usize,
    last_use: u64,
}

impl ImageCache {
    /// An empty cache of `budget` bytes; 0 keeps nothing.
    pub(super) fn new(budget: usize) -> Self {
        Self {
            budget,
            bytes: 0,
            uses: 0,
            entries: HashMap::new(),
        }
    }

    /// Bytes of features that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The features of an image, if they are kept.
    pub(super) fn get(&mut self, image: &ImageKey) -> Option<Tensor> {
        self.uses += 1;
        let entry = self.entries.get_mut(image)?;
        entry.last_use = self.uses;
        Some(entry.features.clone())
    }

    /// Keeps the features of an image, unless they are larger than the whole budget.
    pub(super) fn insert(&mut self, image: ImageKey, features: &Tensor) {
        let bytes = features.elem_count() * features.dtype().size_in_bytes();
        if bytes > self.budget || self.entries.contains_key(&image) {
            return;
        }
        while self.bytes + bytes > self.budget {
            self.evict();
        }
        self.uses += 1;
        let entry = Entry {
            features: features.clone(),
            bytes,
            last_use: self.uses,
        };
        self.bytes += bytes;
        self.entries.insert(image, entry);
    }

    /// Lets go of what was used longest ago. A scan is quick: features are a megabyte or so each.
    fn evict(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.last_use);
        if let Some(image) = oldest.map(|(image, _)| *image)
            && let Some(entry) = self.entries.remove(&image)
        {
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    /// Features of `4 × floats` bytes.
    fn features(floats: usize) -> Tensor {
        Tensor::zeros(floats, DType::F32, &Device::Cpu).unwrap()
    }

    fn image(byte: u8) -> ImageKey {
        ImageKey {
            hash: [byte; 32],
            adapter: None,
        }
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut cache = ImageCache::new(8);
        cache.insert(image(1), &features(1));
        cache.insert(image(2), &features(1));
        assert!(cache.get(&image(1)).is_some());
        cache.insert(image(3), &features(1));
        assert!(cache.get(&image(1)).is_some());
        assert!(cache.get(&image(2)).is_none());
        assert!(cache.get(&image(3)).is_some());
        assert_eq!(cache.bytes(), 8);
    }

    #[test]
    fn a_large_image_takes_the_place_of_several() {
        let mut cache = ImageCache::new(12);
        for hash in 1..=3 {
            cache.insert(image(hash), &features(1));
        }
        cache.insert(image(9), &features(2));
        assert!(cache.get(&image(1)).is_none());
        assert!(cache.get(&image(2)).is_none());
        assert!(cache.get(&image(3)).is_some());
        assert_eq!(cache.bytes(), 12);
    }

    #[test]
    fn an_image_larger_than_the_budget_is_not_kept_and_drives_nothing_out() {
        let mut cache = ImageCache::new(8);
        cache.insert(image(1), &features(2));
        cache.insert(image(2), &features(3));
        assert!(cache.get(&image(1)).is_some());
        assert!(cache.get(&image(2)).is_none());
    }

    #[test]
    fn a_budget_of_zero_keeps_nothing() {
        let mut cache = ImageCache::new(0);
        cache.insert(image(1), &features(1));
        assert!(cache.get(&image(1)).is_none());
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn the_same_image_is_counted_once() {
        let mut cache = ImageCache::new(8);
        cache.insert(image(1), &features(1));
        cache.insert(image(1), &features(1));
        assert_eq!(cache.bytes(), 4);
    }

    #[test]
    fn an_adapter_that_sees_differently_has_features_of_its_own() {
        let mut cache = ImageCache::new(8);
        let seen = ImageKey {
            adapter: Some(AdapterId(1)),
            ..image(1)
        };
        cache.insert(image(1), &features(1));
        assert!(cache.get(&seen).is_none());
        cache.insert(seen, &features(1));
        assert_eq!(cache.bytes(), 8);
    }
}
