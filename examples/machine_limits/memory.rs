//! Reading a buffer that is far larger than the caches.

use std::arch::x86_64::*;
use std::hint::black_box;

use memmap2::MmapMut;

/// What one access to memory brings.
#[repr(C, align(64))]
pub struct Line([u8; 64]);

/// Parts of the buffer that are read side by side, and how many lines ahead of the loads they are
/// asked for: processors alone fetch little ahead, and not across pages.
const STREAMS: usize = 3;
const AHEAD: usize = 32;

/// Lines that are not zero, so that each page has memory of its own; in large pages where the system
/// has them, as the server's weights lie.
pub struct Buffer(MmapMut);

impl Buffer {
    /// # Errors
    /// When memory runs out.
    pub fn new(bytes: usize) -> std::io::Result<Self> {
        let mut memory = MmapMut::map_anon(bytes)?;
        // Without large pages, the figure is that of small ones.
        let _advised = memory.advise(memmap2::Advice::HugePage);
        memory.fill(1);
        Ok(Self(memory))
    }

    pub fn lines(&self) -> &[Line] {
        let lines = self.0.len() / size_of::<Line>();
        // SAFETY: a mapping is aligned to a page, and every byte of it is initialised.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), lines) }
    }
}

/// Reads each line once, with AVX-512 where the processor has it, else with AVX2, which it must
/// have.
pub fn read(lines: &[Line]) {
    assert!(is_x86_feature_detected!("avx2"), "the processor lacks AVX2");
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512F.
        unsafe { read_zmm(lines) }
    } else {
        // SAFETY: the processor has AVX2.
        unsafe { read_ymm(lines) }
    }
}

#[target_feature(enable = "avx512f")]
fn read_zmm(lines: &[Line]) {
    let parts = parts(lines);
    let mut sums = [_mm512_setzero_si512(); STREAMS];
    for index in 0..parts[0].len() {
        for (sum, part) in sums.iter_mut().zip(parts) {
            prefetch(part, index + AHEAD);
            // SAFETY: a line is 64 bytes, aligned to 64.
            let values = unsafe { _mm512_load_si512(part[index].0.as_ptr().cast()) };
            *sum = _mm512_xor_si512(*sum, values);
        }
    }
    black_box(sums);
}

#[target_feature(enable = "avx2")]
fn read_ymm(lines: &[Line]) {
    let parts = parts(lines);
    let mut sums = [_mm256_setzero_si256(); STREAMS];
    for index in 0..parts[0].len() {
        for (sum, part) in sums.iter_mut().zip(parts) {
            prefetch(part, index + AHEAD);
            let (low, high) = part[index].0.split_at(32);
            // SAFETY: half a line is 32 bytes, aligned to 32.
            let low = unsafe { _mm256_load_si256(low.as_ptr().cast()) };
            // SAFETY: as above.
            let high = unsafe { _mm256_load_si256(high.as_ptr().cast()) };
            *sum = _mm256_xor_si256(*sum, _mm256_xor_si256(low, high));
        }
    }
    black_box(sums);
}

/// Equally long parts; less than a line for each is left out.
fn parts(lines: &[Line]) -> [&[Line]; STREAMS] {
    let part = lines.len() / STREAMS;
    std::array::from_fn(|stream| &lines[stream * part..][..part])
}

#[inline(always)]
fn prefetch(lines: &[Line], index: usize) {
    let line = lines.as_ptr().wrapping_add(index);
    // SAFETY: the instruction takes any address and never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}
