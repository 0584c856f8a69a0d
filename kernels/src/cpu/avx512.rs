//! AVX-512 with VNNI: `vpdpbusd` on 512 bits; with AMX, tiles for many rows.

use std::arch::x86_64::*;

use half::f16;

use super::activations::{GroupScale, inverse_step};
use super::amx;
use super::isa::{Isa, enter_with};
use super::tiled_product::Part;

/// AVX-512 F, BW, VL and VNNI, and AMX or not.
pub struct Avx512<const AMX: bool>;

/// AVX-512 F, BW, VL and VNNI.
pub type Avx512Vnni = Avx512<false>;
/// The same, and AMX-TILE and AMX-BF16.
pub type Amx = Avx512<true>;

// SAFETY: the operations are those of AVX-512 F, BW and VNNI, and of AMX where it is there.
unsafe impl<const AMX: bool> Isa for Avx512<AMX> {
    enter_with!("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c");

    type Int = __m512i;
    type Float = __m512;
    type Weights = __m512i;
    type Act = i8;

    const ROWS: usize = 4;
    const FLOAT_ROWS: usize = 4;
    const PANELS: usize = 3;
    const TILES: bool = AMX;

    #[inline(always)]
    unsafe fn round_activations(group: *const f32, to: *mut i8) -> GroupScale {
        // SAFETY: the caller's pointers and processor.
        unsafe {
            let halves = [_mm512_loadu_ps(group), _mm512_loadu_ps(group.add(16))];
            let [a, b] = halves.map(|half| _mm512_abs_ps(half));
            let largest = _mm512_reduce_max_ps(_mm512_max_ps(a, b));
            let max = _mm512_set1_ps(f32::MAX);
            let finite =
                _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, max) & _mm512_cmp_ps_mask::<_CMP_LE_OQ>(b, max);
            let inverse = _mm512_set1_ps(inverse_step(largest));
            let [a, b] = halves.map(|half| _mm512_cvtps_epi32(_mm512_mul_ps(half, inverse)));
            let to = to.cast::<__m128i>();
            _mm_storeu_si128(to, _mm512_cvtepi32_epi8(a));
            _mm_storeu_si128(to.add(1), _mm512_cvtepi32_epi8(b));
            let sum = _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
            GroupScale::new(largest, finite == u16::MAX, sum)
        }
    }

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> __m512i {
        // SAFETY: the caller's pointer and processor.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn low_nibbles(from: *const u8) -> __m512i {
        // SAFETY: the caller's pointer and processor.
        unsafe { _mm512_and_si512(Self::weights(from), _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    unsafe fn high_nibbles(from: *const u8) -> __m512i {
        // SAFETY: the caller's pointer and processor.
        unsafe {
            let shifted = _mm512_srli_epi16::<4>(Self::weights(from));
            _mm512_and_si512(shifted, _mm512_set1_epi8(15))
        }
    }

    #[inline(always)]
    unsafe fn dot(sum: __m512i, weights: __m512i, with: *const i8) -> __m512i {
        // SAFETY: the caller's pointer and processor.
        unsafe {
            let with = _mm512_set1_epi32(with.cast::<i32>().read_unaligned());
            _mm512_dpbusd_epi32(sum, weights, with)
        }
    }

    #[inline(always)]
    unsafe fn splat_int(value: i32) -> __m512i {
        // SAFETY: the caller's processor has AVX-512.
        unsafe { _mm512_set1_epi32(value) }
    }

    #[inline(always)]
    unsafe fn to_float(value: __m512i) -> __m512 {
        // SAFETY: the caller's processor has AVX-512.
        unsafe { _mm512_cvtepi32_ps(value) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        // SAFETY: the caller's processor has AVX-512.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the caller's pointer and processor.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> __m512 {
        // SAFETY: the caller's pointer and processor.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m512) {
        // SAFETY: the caller's pointer and processor.
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller's processor has AVX-512.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller's processor has AVX-512.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        // SAFETY: a prefetch touches nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn run_tiles(part: &Part<'_>) {
        // SAFETY: the caller's.
        unsafe { amx::run(part) }
    }
}
