//! Image files: headers, metadata and pixels.
//!
//! A file becomes a picture within the limits and pixels of the model's size, or an error of one line.
//! Decoding never takes more memory than the limit: an allocator counts.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libfuzzer_sys::fuzz_target;
use paligemma_fuzz::assert_one_line;
use paligemma_server::pixels::{ImageLimits, Preprocessor};

const SIDE: u32 = 28;
const LIMITS: ImageLimits = ImageLimits {
    max_side: 4096,
    max_pixels: 1 << 18,
    memory: 24 << 20,
};

/// Counts the bytes that are allocated, and the most there have been.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

fuzz_target!(|file: &[u8]| {
    let preprocessor = Preprocessor::new(SIDE, LIMITS, 1);
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let picture = preprocessor.picture(file);
    let taken = PEAK.load(Relaxed) - before;
    // A PNG is copied without its metadata.
    let allowed = LIMITS.memory as usize + file.len();
    assert!(taken <= allowed, "decoding took {taken} of {allowed} bytes");
    match picture {
        Ok(picture) => {
            let (width, height) = picture.dimensions();
            assert!(width.max(height) <= LIMITS.max_side);
            assert!(u64::from(width) * u64::from(height) <= LIMITS.max_pixels);
            let pixels = preprocessor.prepare_blocking(file).expect("it was decoded");
            assert_eq!((pixels.width, pixels.height), (width, height));
            assert_eq!(pixels.data.len() as u32, SIDE * SIDE * 3);
        }
        Err(error) => assert_one_line(error),
    }
});
