//! The kernels' operations in plain Rust: for processors without better, and what all others are
//! tested against.

use half::f16;

use super::activations::{GroupScale, inverse_step};
use super::isa::{COLUMNS, Isa, enter_with};
use super::layout::GROUP;

/// No instructions beyond the target's.
pub struct Portable;

// SAFETY: it asks for nothing of the processor, and touches no more than the trait allows.
unsafe impl Isa for Portable {
    enter_with!();

    type Int = [i32; COLUMNS];
    type Float = [f32; COLUMNS];
    type Weights = [[u8; 4]; COLUMNS];
    type Act = i8;

    const ROWS: usize = 2;
    const FLOAT_ROWS: usize = 2;
    const PANELS: usize = 1;

    #[inline(always)]
    unsafe fn round_activations(group: *const f32, to: *mut i8) -> GroupScale {
        // SAFETY: the caller's.
        let group = unsafe { group.cast::<[f32; GROUP]>().read() };
        let larger = |max: f32, x: &f32| if x.abs() > max { x.abs() } else { max };
        let largest = group.iter().fold(0.0, larger);
        let inverse = inverse_step(largest);
        let values = group.map(|x| (x * inverse).round_ties_even() as i8);
        // SAFETY: the caller's.
        unsafe { to.cast::<[i8; GROUP]>().write(values) };
        let sum = values.iter().map(|&value| i32::from(value)).sum();
        GroupScale::new(largest, group.iter().all(|x| x.is_finite()), sum)
    }

    #[inline(always)]
    unsafe fn weights(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's.
        unsafe { from.cast::<Self::Weights>().read() }
    }

    #[inline(always)]
    unsafe fn low_nibbles(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's.
        unsafe { Self::weights(from) }.map(|column| column.map(|byte| byte & 15))
    }

    #[inline(always)]
    unsafe fn high_nibbles(from: *const u8) -> Self::Weights {
        // SAFETY: the caller's.
        unsafe { Self::weights(from) }.map(|column| column.map(|byte| byte >> 4))
    }

    #[inline(always)]
    unsafe fn dot(sum: Self::Int, weights: Self::Weights, with: *const i8) -> Self::Int {
        // SAFETY: the caller's.
        let activations = unsafe { with.cast::<[i8; 4]>().read() };
        std::array::from_fn(|column| {
            let products = weights[column].iter().zip(activations);
            sum[column]
                + products
                    .map(|(&w, a)| i32::from(w) * i32::from(a))
                    .sum::<i32>()
        })
    }

    #[inline(always)]
    unsafe fn splat_int(value: i32) -> Self::Int {
        [value; COLUMNS]
    }

    #[inline(always)]
    unsafe fn to_float(value: Self::Int) -> Self::Float {
        value.map(|value| value as f32)
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::Float {
        [value; COLUMNS]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::Float {
        // SAFETY: the caller's.
        unsafe { from.cast::<Self::Float>().read() }
    }

    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> Self::Float {
        // SAFETY: the caller's.
        unsafe { from.cast::<[f16; COLUMNS]>().read() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: Self::Float) {
        // SAFETY: the caller's.
        unsafe { to.cast::<Self::Float>().write(value) }
    }

    #[inline(always)]
    unsafe fn mul(a: Self::Float, b: Self::Float) -> Self::Float {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    unsafe fn mul_add(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    unsafe fn prefetch(_at: *const u8) {}
}
