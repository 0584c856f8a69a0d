//! Memory for images that are being decoded, in two parts: so that small images don't wait for large
//! ones.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::preprocess::acquired;

/// Memory is counted in units of so many bytes.
const UNIT: u64 = 1 << 16;

/// Bounds what all images take while they are decoded. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct DecodeMemory {
    /// A quarter of it: for images that take at most half of that, and for what a very large one takes
    /// beyond the other part.
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// How many large images are decoded at a time: one fewer than there are threads, if there are
    /// several.
    large_at_once: Arc<Semaphore>,
    /// In units.
    of_small: u32,
    of_large: u32,
}

/// One image's memory, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    _permits: Vec<OwnedSemaphorePermit>,
}

impl DecodeMemory {
    /// `bytes` for all images, of which `threads` are decoded at a time.
    pub fn new(bytes: u64, threads: usize) -> Self {
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize) as u64;
        let units = bytes.div_ceil(UNIT).clamp(4, most) as u32;
        let of_small = units / 4;
        let of_large = units - of_small;
        let semaphore = |permits: u32| Arc::new(Semaphore::new(permits as usize));
        Self {
            small: semaphore(of_small),
            large: semaphore(of_large),
            large_at_once: Arc::new(Semaphore::new(threads.saturating_sub(1).max(1))),
            of_small,
            of_large,
        }
    }

    /// Waits until there are `bytes` for an image; it takes no more than all of the memory.
    pub async fn take(&self, bytes: u64) -> Taken {
        let all = u64::from(self.of_small + self.of_large);
        let units = bytes.div_ceil(UNIT).min(all) as u32;
        if units <= self.of_small / 2 {
            return Taken {
                _permits: vec![acquired(&self.small, units).await],
            };
        }
        let first = units.min(self.of_large);
        Taken {
            // Always in this order, so that no two wait for each other.
            _permits: vec![
                acquired(&self.large, first).await,
                acquired(&self.small, units - first).await,
                acquired(&self.large_at_once, 1).await,
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const MB: u64 = 1 << 20;

    fn at_once(memory: &DecodeMemory, bytes: u64) -> Option<Taken> {
        memory.take(bytes).now_or_never()
    }

    #[test]
    fn small_images_do_not_wait_for_large_ones() {
        let memory = DecodeMemory::new(400 * MB, 3);
        let large = at_once(&memory, 300 * MB).expect("it is all free");
        assert!(
            at_once(&memory, 100 * MB).is_none(),
            "that would be too much"
        );
        let small: Vec<_> = (0..2).map(|_| at_once(&memory, 50 * MB)).collect();
        assert!(small.iter().all(Option::is_some));
        assert!(
            at_once(&memory, MB).is_none(),
            "small ones have a bound, too"
        );
        drop(large);
        assert!(at_once(&memory, 100 * MB).is_some());
    }

    #[test]
    fn an_image_of_all_the_memory_waits_for_every_other() {
        let memory = DecodeMemory::new(400 * MB, 3);
        let small = at_once(&memory, 10 * MB).expect("it is all free");
        assert!(at_once(&memory, 400 * MB).is_none());
        drop(small);
        let all = at_once(&memory, 400 * MB).expect("it is all free");
        assert!(at_once(&memory, MB).is_none());
        drop(all);
        // One that takes more is refused before.
        assert!(at_once(&memory, 500 * MB).is_some());
    }

    #[test]
    fn a_thread_is_left_for_small_images() {
        let memory = DecodeMemory::new(400 * MB, 2);
        let one = at_once(&memory, 60 * MB).expect("it is all free");
        assert!(at_once(&memory, 60 * MB).is_none());
        drop(one);
        assert!(at_once(&memory, 60 * MB).is_some());
    }
}
