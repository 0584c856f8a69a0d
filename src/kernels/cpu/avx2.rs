//! AVX2 with FMA and F16C: products of 16 bits, which are exact where those of 8 bits would
//! saturate. AVX-VNNI does the dot product of bytes in one instruction instead.

use std::arch::x86_64::*;

use half::f16;

use super::isa::{Isa, enter_with};

/// `vpmaddwd` on bytes widened to 16 bits.
pub struct Avx2;

/// `vpdpbusd` on 256 bits.
pub struct AvxVnni;

/// The operations on floats and integers that both share.
macro_rules! halves_of_16 {
    () => {
        type Int = [__m256i; 2];
        type Float = [__m256; 2];

        #[inline(always)]
        unsafe fn splat_int(value: i32) -> Self::Int {
            // SAFETY: the caller's processor has AVX2.
            [unsafe { _mm256_set1_epi32(value) }; 2]
        }

        #[inline(always)]
        unsafe fn to_float(value: Self::Int) -> Self::Float {
            // SAFETY: the caller's processor has AVX2.
            unsafe { [_mm256_cvtepi32_ps(value[0]), _mm256_cvtepi32_ps(value[1])] }
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self::Float {
            // SAFETY: the caller's processor has AVX2.
            [unsafe { _mm256_set1_ps(value) }; 2]
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::Float {
            // SAFETY: the caller's pointer and processor.
            unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
        }

        #[inline(always)]
        unsafe fn load_half(from: *const f16) -> Self::Float {
            // SAFETY: the caller's pointer and processor.
            unsafe {
                let from = from.cast::<__m128i>();
                [
                    _mm256_cvtph_ps(_mm_loadu_si128(from)),
                    _mm256_cvtph_ps(_mm_loadu_si128(from.add(1))),
                ]
            }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, [low, high]: Self::Float) {
            // SAFETY: the caller's pointer and processor.
            unsafe {
                _mm256_storeu_ps(to, low);
                _mm256_storeu_ps(to.add(8), high);
            }
        }

        #[inline(always)]
        unsafe fn mul(a: Self::Float, b: Self::Float) -> Self::Float {
            // SAFETY: the caller's processor has AVX2.
            unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
        }

        #[inline(always)]
        unsafe fn mul_add(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float {
            // SAFETY: the caller's processor has FMA.
            unsafe {
                [
                    _mm256_fmadd_ps(a[0], b[0], c[0]),
                    _mm256_fmadd_ps(a[1], b[1], c[1]),
                ]
            }
        }

        #[inline(always)]
        unsafe fn prefetch(at: *const u8) {
            // SAFETY: a prefetch touches nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
    };
}

// SAFETY: the operations are those of AVX2, FMA and F16C.
unsafe impl Isa for Avx2 {
    enter_with!("avx2,fma,f16c");
    halves_of_16!();

    /// Of each half, the bytes 0 and 2 of every four, and the bytes 1 and 3, as 16 bits.
    type Weights = [[__m256i; 2]; 2];
    /// Of every four the 1st, 3rd, 2nd and 4th.
    type Act = i16;

    const ROWS: usize = 4;
    const FLOAT_ROWS: usize = 6;
    const PANELS: usize = 1;

    #[inline(always)]
    unsafe fn store_activations(to: *mut i16, [a, b, c, d]: [i8; 4]) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[i16; 4]>().write([a, c, b, d].map(i16::from)) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's pointer and processor.
        unsafe {
            let [first, second] = bytes(from);
            [widened(first), widened(second)]
        }
    }

    #[inline(always)]
    unsafe fn low_nibbles(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's pointer and processor.
        unsafe {
            let [first, second] = low(from);
            [widened(first), widened(second)]
        }
    }

    #[inline(always)]
    unsafe fn high_nibbles(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's pointer and processor.
        unsafe {
            let [first, second] = high(from);
            [widened(first), widened(second)]
        }
    }

    #[inline(always)]
    unsafe fn dot(sum: Self::Int, weights: Self::Weights, with: *const i16) -> Self::Int {
        // SAFETY: the caller's pointer and processor.
        unsafe {
            let pairs = with.cast::<i32>();
            let even = _mm256_set1_epi32(pairs.read_unaligned());
            let odd = _mm256_set1_epi32(pairs.add(1).read_unaligned());
            let [first, second] = weights;
            let low = _mm256_add_epi32(sum[0], _mm256_madd_epi16(first[0], even));
            let high = _mm256_add_epi32(sum[1], _mm256_madd_epi16(second[0], even));
            [
                _mm256_add_epi32(low, _mm256_madd_epi16(first[1], odd)),
                _mm256_add_epi32(high, _mm256_madd_epi16(second[1], odd)),
            ]
        }
    }
}

// SAFETY: the operations are those of AVX2, FMA, F16C and AVX-VNNI.
unsafe impl Isa for AvxVnni {
    enter_with!("avx2,fma,f16c,avxvnni");
    halves_of_16!();

    type Weights = [__m256i; 2];
    type Act = i8;

    const ROWS: usize = 4;
    const FLOAT_ROWS: usize = 6;
    const PANELS: usize = 1;

    #[inline(always)]
    unsafe fn store_activations(to: *mut i8, values: [i8; 4]) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[i8; 4]>().write(values) }
    }

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's pointer and processor.
        unsafe { bytes(from) }
    }

    #[inline(always)]
    unsafe fn low_nibbles(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's pointer and processor.
        unsafe { low(from) }
    }

    #[inline(always)]
    unsafe fn high_nibbles(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's pointer and processor.
        unsafe { high(from) }
    }

    #[inline(always)]
    unsafe fn dot(sum: Self::Int, weights: Self::Weights, with: *const i8) -> Self::Int {
        // SAFETY: the caller's pointer and processor.
        unsafe {
            let with = _mm256_set1_epi32(with.cast::<i32>().read_unaligned());
            [
                _mm256_dpbusd_avx_epi32(sum[0], weights[0], with),
                _mm256_dpbusd_avx_epi32(sum[1], weights[1], with),
            ]
        }
    }
}

/// 64 bytes.
#[inline(always)]
unsafe fn bytes(from: *const u8) -> [__m256i; 2] {
    let from = from.cast::<__m256i>();
    // SAFETY: the caller's pointer and processor.
    unsafe { [_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1))] }
}

/// The lower halves of 64 bytes.
#[inline(always)]
unsafe fn low(from: *const u8) -> [__m256i; 2] {
    // SAFETY: the caller's pointer and processor.
    unsafe {
        let ([first, second], mask) = (bytes(from), _mm256_set1_epi8(15));
        [
            _mm256_and_si256(first, mask),
            _mm256_and_si256(second, mask),
        ]
    }
}

/// The upper halves of 64 bytes.
#[inline(always)]
unsafe fn high(from: *const u8) -> [__m256i; 2] {
    // SAFETY: the caller's pointer and processor.
    unsafe {
        let ([first, second], mask) = (bytes(from), _mm256_set1_epi8(15));
        [
            _mm256_and_si256(_mm256_srli_epi16::<4>(first), mask),
            _mm256_and_si256(_mm256_srli_epi16::<4>(second), mask),
        ]
    }
}

/// The even bytes and the odd ones, as 16 bits.
#[inline(always)]
unsafe fn widened(bytes: __m256i) -> [__m256i; 2] {
    // SAFETY: the caller's processor has AVX2.
    unsafe {
        [
            _mm256_and_si256(bytes, _mm256_set1_epi16(255)),
            _mm256_srli_epi16::<8>(bytes),
        ]
    }
}
