//! Norms of rows.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::instructions::{Instructions, dispatch};
use super::isa::{Isa, Work};
use super::lanes::fold;
use super::parallel::in_parallel;

/// How the rows of `x` become those of the norm.
#[derive(Clone, Copy)]
pub enum Norm<'a> {
    /// `x / rms(x) · scale`.
    Rms { scale: &'a [f32] },
    /// `(x - mean) / deviation · weight + bias`.
    Layer { weight: &'a [f32], bias: &'a [f32] },
}

impl Norm<'_> {
    fn width(&self) -> usize {
        match self {
            Self::Rms { scale } => scale.len(),
            Self::Layer { weight, .. } => weight.len(),
        }
    }
}

/// The norm of every row of `x`.
///
/// # Panics
/// When `x` is not whole rows, or the processor lacks the instructions.
pub fn norm(instructions: Instructions, x: &[f32], norm: Norm<'_>, eps: f32) -> Vec<f32> {
    let width = norm.width();
    assert_eq!(x.len() % width, 0, "x is not whole rows");
    if let Norm::Layer { weight, bias } = norm {
        assert_eq!(weight.len(), bias.len());
    }
    let mut out = Vec::with_capacity(x.len());
    let work = Rows {
        x,
        norm,
        eps,
        out: out.as_mut_ptr(),
    };
    dispatch!(instructions, I => in_parallel::<I, _>(&work, x.len() / width, 4 * x.len()));
    // SAFETY: the parts wrote every row.
    unsafe { out.set_len(x.len()) }
    out
}

/// Norms whose parts are rows.
struct Rows<'a> {
    x: &'a [f32],
    norm: Norm<'a>,
    eps: f32,
    /// With room for all rows.
    out: *mut f32,
}

// SAFETY: threads write to rows of their own.
unsafe impl Sync for Rows<'_> {}

impl<I: Isa> Work<I> for Rows<'_> {
    #[inline(always)]
    unsafe fn run(&self, parts: Range<usize>) {
        let width = self.norm.width();
        for row in parts {
            let x = &self.x[row * width..][..width];
            // SAFETY: `out` has room for all rows, and this row is this part's.
            let out = unsafe {
                let out = self.out.add(row * width).cast::<MaybeUninit<f32>>();
                std::slice::from_raw_parts_mut(out, width)
            };
            match self.norm {
                Norm::Rms { scale } => rms(x, scale, self.eps, out),
                Norm::Layer { weight, bias } => layer(x, weight, bias, self.eps, out),
            }
        }
    }
}

#[inline(always)]
fn rms(x: &[f32], scale: &[f32], eps: f32, out: &mut [MaybeUninit<f32>]) {
    let squares = fold(x, 0.0, |sum, x| sum + x * x, |a, b| a + b);
    let inverse = 1.0 / (squares / x.len() as f32 + eps).sqrt();
    for ((out, &x), &scale) in out.iter_mut().zip(x).zip(scale) {
        out.write(x * inverse * scale);
    }
}

#[inline(always)]
fn layer(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [MaybeUninit<f32>]) {
    let width = x.len() as f32;
    let mean = fold(x, 0.0, |sum, x| sum + x, |a, b| a + b) / width;
    let squares = |sum: f32, x: f32| sum + (x - mean) * (x - mean);
    let variance = fold(x, 0.0, squares, |a, b| a + b) / width;
    let inverse = 1.0 / (variance + eps).sqrt();
    for (i, (out, &x)) in out.iter_mut().zip(x).enumerate() {
        out.write((x - mean) * inverse * weight[i] + bias[i]);
    }
}
