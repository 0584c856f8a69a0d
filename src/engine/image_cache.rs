//! Image features that were computed before, by the image's content.

use std::collections::HashMap;

use candle_core::Tensor;

/// Projected image features by [`Pixels::hash`](crate::pixels::Pixels::hash), within a budget of
/// bytes. What was used longest ago goes first.
#[derive(Debug)]
pub(super) struct ImageCache {
    budget: usize,
    bytes: usize,
    uses: u64,
    entries: HashMap<[u8; 32], Entry>,
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
    pub(super) fn get(&mut self, hash: &[u8; 32]) -> Option<Tensor> {
        self.uses += 1;
        let entry = self.entries.get_mut(hash)?;
        entry.last_use = self.uses;
        Some(entry.features.clone())
    }

    /// Keeps the features of an image, unless they are larger than the whole budget.
    pub(super) fn insert(&mut self, hash: [u8; 32], features: &Tensor) {
        let bytes = features.elem_count() * features.dtype().size_in_bytes();
        if bytes > self.budget || self.entries.contains_key(&hash) {
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
        self.entries.insert(hash, entry);
    }

    /// Lets go of what was used longest ago. A scan is quick: features are a megabyte or so each.
    fn evict(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.last_use);
        if let Some(hash) = oldest.map(|(hash, _)| *hash)
            && let Some(entry) = self.entries.remove(&hash)
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

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut cache = ImageCache::new(8);
        cache.insert([1; 32], &features(1));
        cache.insert([2; 32], &features(1));
        assert!(cache.get(&[1; 32]).is_some());
        cache.insert([3; 32], &features(1));
        assert!(cache.get(&[1; 32]).is_some());
        assert!(cache.get(&[2; 32]).is_none());
        assert!(cache.get(&[3; 32]).is_some());
        assert_eq!(cache.bytes(), 8);
    }

    #[test]
    fn a_large_image_takes_the_place_of_several() {
        let mut cache = ImageCache::new(12);
        for hash in 1..=3 {
            cache.insert([hash; 32], &features(1));
        }
        cache.insert([9; 32], &features(2));
        assert!(cache.get(&[1; 32]).is_none());
        assert!(cache.get(&[2; 32]).is_none());
        assert!(cache.get(&[3; 32]).is_some());
        assert_eq!(cache.bytes(), 12);
    }

    #[test]
    fn an_image_larger_than_the_budget_is_not_kept_and_drives_nothing_out() {
        let mut cache = ImageCache::new(8);
        cache.insert([1; 32], &features(2));
        cache.insert([2; 32], &features(3));
        assert!(cache.get(&[1; 32]).is_some());
        assert!(cache.get(&[2; 32]).is_none());
    }

    #[test]
    fn a_budget_of_zero_keeps_nothing() {
        let mut cache = ImageCache::new(0);
        cache.insert([1; 32], &features(1));
        assert!(cache.get(&[1; 32]).is_none());
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn the_same_image_is_counted_once() {
        let mut cache = ImageCache::new(8);
        cache.insert([1; 32], &features(1));
        cache.insert([1; 32], &features(1));
        assert_eq!(cache.bytes(), 4);
    }
}
