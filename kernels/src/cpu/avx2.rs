//! AVX2 with FMA and F16C: products of 16 bits, which are exact where those of 8 bits would
//! saturate. AVX-VNNI does the dot product of bytes in one instruction instead.

use std::arch::x86_64::*;

use half::f16;

use super::activations::{GroupScale, inverse_step};
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
    unsafe fn round_activations(group: *const f32, to: *mut i16) -> GroupScale {
        // SAFETY: the caller's pointers and processor.
        unsafe {
            let (bytes, scale) = rounded(group);
            let order = _mm256_set1_epi32(0x03_01_02_00);
            let four = _mm256_setr_epi32(
                0,
                0x0404_0404,
                0x0808_0808,
                0x0c0c_0c0c,
                0,
                0x0404_0404,
                0x0808_0808,
                0x0c0c_0c0c,
            );
            let bytes = _mm256_shuffle_epi8(bytes, _mm256_add_epi8(order, four));
            let to = to.cast::<__m256i>();
            let (low, high) = (
                _mm256_castsi256_si128(bytes),
                _mm256_extracti128_si256::<1>(bytes),
            );
            _mm256_storeu_si256(to, _mm256_cvtepi8_epi16(low));
            _mm256_storeu_si256(to.add(1), _mm256_cvtepi8_epi16(high));
            scale
        }
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
    unsafe fn round_activations(group: *const f32, to: *mut i8) -> GroupScale {
        // SAFETY: the caller's pointers and processor.
        unsafe {
            let (bytes, scale) = rounded(group);
            _mm256_storeu_si256(to.cast(), bytes);
            scale
        }
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

/// 32 activations as bytes, and their scale.
#[inline(always)]
unsafe fn rounded(group: *const f32) -> (__m256i, GroupScale) {
    // SAFETY: the caller's pointer and processor.
    unsafe {
        let groups = [0, 8, 16, 24].map(|at| _mm256_loadu_ps(group.add(at)));
        let sizes = groups.map(|x| _mm256_andnot_ps(_mm256_set1_ps(-0.0), x));
        let max = _mm256_set1_ps(f32::MAX);
        let [a, b, c, d] = sizes.map(|x| _mm256_cmp_ps::<_CMP_LE_OQ>(x, max));
        let finite = _mm256_and_ps(_mm256_and_ps(a, b), _mm256_and_ps(c, d));
        let finite = _mm256_movemask_ps(finite) == 0xff;
        let [a, b, c, d] = sizes;
        let largest = largest(_mm256_max_ps(_mm256_max_ps(a, b), _mm256_max_ps(c, d)));
        let inverse = _mm256_set1_ps(inverse_step(largest));
        let [a, b, c, d] = groups.map(|x| _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse)));
        let sum = sum(_mm256_add_epi32(
            _mm256_add_epi32(a, b),
            _mm256_add_epi32(c, d),
        ));
        // Packing takes four values of each operand in turn.
        let mixed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let bytes = _mm256_permutevar8x32_epi32(mixed, order);
        (bytes, GroupScale::new(largest, finite, sum))
    }
}

#[inline(always)]
unsafe fn largest(x: __m256) -> f32 {
    // SAFETY: the caller's processor has AVX2.
    unsafe {
        let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
    }
}

#[inline(always)]
unsafe fn sum(x: __m256i) -> i32 {
    // SAFETY: the caller's processor has AVX2.
    unsafe {
        let x = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
        let x = _mm_add_epi32(x, _mm_shuffle_epi32::<0b01_00_11_10>(x));
        _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32::<0b00_00_00_01>(x)))
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
