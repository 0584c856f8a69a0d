//! Loops that only multiply and add in registers, each with the best instructions of one kind.

use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

/// One loop, and how many operations (a multiplication and an addition are two) a round of it does.
#[derive(Clone, Copy)]
pub struct Loop {
    pub name: &'static str,
    pub operations: u64,
    pub run: fn(u64),
}

/// Independent sums: more than the latency of an addition times the instructions per cycle.
const SUMS: usize = 12;

/// The loops over 8-bit integers that this processor can run. Each multiplies any two values
/// exactly and adds the products in 32 bits.
pub fn int8() -> Vec<Loop> {
    let mut loops = Vec::new();
    if is_x86_feature_detected!("avx512vnni") {
        loops.push(Loop {
            name: "vpdpbusd zmm",
            operations: 2 * 64 * SUMS as u64,
            // SAFETY: the processor has AVX-512 VNNI, which includes AVX-512F.
            run: |rounds| unsafe { vpdpbusd_zmm(rounds) },
        });
    }
    if is_x86_feature_detected!("avxvnni") {
        loops.push(Loop {
            name: "vpdpbusd ymm",
            operations: 2 * 32 * SUMS as u64,
            // SAFETY: the processor has AVX-VNNI, which includes AVX2.
            run: |rounds| unsafe { vpdpbusd_ymm(rounds) },
        });
    }
    if is_x86_feature_detected!("avx2") {
        loops.push(Loop {
            name: "vpmaddwd + vpaddd ymm",
            operations: 2 * 16 * SUMS as u64,
            // SAFETY: the processor has AVX2.
            run: |rounds| unsafe { vpmaddwd_ymm(rounds) },
        });
        loops.push(Loop {
            name: "vpmaddubsw + vpmaddwd + vpaddd ymm",
            operations: 2 * 32 * SUMS as u64,
            // SAFETY: the processor has AVX2.
            run: |rounds| unsafe { vpmaddubsw_ymm(rounds) },
        });
    }
    loops
}

/// The loops over 32-bit floats that this processor can run.
pub fn f32() -> Vec<Loop> {
    let mut loops = Vec::new();
    if is_x86_feature_detected!("avx512f") {
        loops.push(Loop {
            name: "vfmadd231ps zmm",
            operations: 2 * 16 * SUMS as u64,
            // SAFETY: the processor has AVX-512F.
            run: |rounds| unsafe { fma_zmm(rounds) },
        });
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        loops.push(Loop {
            name: "vfmadd231ps ymm",
            operations: 2 * 8 * SUMS as u64,
            // SAFETY: the processor has AVX2 and FMA.
            run: |rounds| unsafe { fma_ymm(rounds) },
        });
    }
    loops
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn vpdpbusd_zmm(rounds: u64) {
    let (x, y) = black_box((_mm512_set1_epi8(3), _mm512_set1_epi8(-5)));
    let mut sums = [_mm512_setzero_si512(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, x, y);
        }
    }
    black_box(sums);
}

#[target_feature(enable = "avx2,avxvnni")]
fn vpdpbusd_ymm(rounds: u64) {
    let (x, y) = black_box((_mm256_set1_epi8(3), _mm256_set1_epi8(-5)));
    let mut sums = [_mm256_setzero_si256(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_dpbusd_avx_epi32(*sum, x, y);
        }
    }
    black_box(sums);
}

/// 8-bit values that were widened to 16 bits.
#[target_feature(enable = "avx2")]
fn vpmaddwd_ymm(rounds: u64) {
    let (mut x, y) = black_box((_mm256_set1_epi16(3), _mm256_set1_epi16(-5)));
    let mut sums = [_mm256_setzero_si256(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            x = opaque(x);
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, y));
        }
    }
    black_box(sums);
}

/// Unsigned by signed 8-bit values, in pairs to 16 bits; exact when a pair stays within them.
#[target_feature(enable = "avx2")]
fn vpmaddubsw_ymm(rounds: u64) {
    let (mut x, y) = black_box((_mm256_set1_epi8(3), _mm256_set1_epi8(-5)));
    let ones = black_box(_mm256_set1_epi16(1));
    let mut sums = [_mm256_setzero_si256(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            x = opaque(x);
            let pairs = _mm256_maddubs_epi16(x, y);
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    black_box(sums);
}

#[target_feature(enable = "avx512f")]
fn fma_zmm(rounds: u64) {
    let (x, y) = black_box((_mm512_set1_ps(0.5), _mm512_set1_ps(-0.25)));
    let mut sums = [_mm512_setzero_ps(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(x, y, *sum);
        }
    }
    black_box(sums);
}

#[target_feature(enable = "avx2,fma")]
fn fma_ymm(rounds: u64) {
    let (x, y) = black_box((_mm256_set1_ps(0.5), _mm256_set1_ps(-0.25)));
    let mut sums = [_mm256_setzero_ps(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(x, y, *sum);
        }
    }
    black_box(sums);
}

/// Hides a value from the optimiser, which would otherwise multiply once and only add.
#[inline]
#[target_feature(enable = "avx2")]
fn opaque(mut x: __m256i) -> __m256i {
    // SAFETY: the text is a comment; nothing is executed.
    unsafe { asm!("/* {0} */", inout(ymm_reg) x, options(pure, nomem, nostack, preserves_flags)) };
    x
}
