//! The instructions that the kernels are written in.

use std::ops::Range;

use super::activations::GroupScale;
use super::tiled_product::Part;

/// Columns of a panel: as many outputs as one step computes side by side.
pub const COLUMNS: usize = 16;

/// What a kernel needs of a processor: 16 integers or floats side by side, and a dot product of
/// bytes.
///
/// Every implementation computes the same values to the last bit: integers are exact, and floats
/// are fused in the same order. Tiles of bf16 are the exception.
///
/// # Safety
/// The methods are sound only on a processor that has the instructions, and pointers must be
/// readable (or writable) for what each says. They are inlined into functions that enable the
/// instructions.
pub unsafe trait Isa: Sized {
    /// 16 sums of 32 bits.
    type Int: Copy;
    /// 16 floats of 32 bits.
    type Float: Copy;
    /// 4 weights of each of 16 columns, as unsigned bytes.
    type Weights: Copy;
    /// How an activation of 8 bits is stored.
    type Act: Copy + Send + Sync;

    /// Rows that one tile computes.
    const ROWS: usize;
    /// Rows that one tile of floats computes.
    const FLOAT_ROWS: usize;
    /// Panels that one tile computes.
    const PANELS: usize;
    /// Whether there are tiles of bf16, for many rows and quantised weights.
    const TILES: bool = false;

    /// Rounds the 32 activations at `group` to 8 bits; `to` takes 32.
    unsafe fn round_activations(group: *const f32, to: *mut Self::Act) -> GroupScale;

    /// 64 bytes: for each column 4 weights.
    unsafe fn weights(from: *const u8) -> Self::Weights;
    /// The lower halves of 64 bytes.
    unsafe fn low_nibbles(from: *const u8) -> Self::Weights;
    /// The upper halves of 64 bytes.
    unsafe fn high_nibbles(from: *const u8) -> Self::Weights;
    /// `sum + Σ weight · activation` over 4 weights a column and the 4 activations at `with`.
    unsafe fn dot(sum: Self::Int, weights: Self::Weights, with: *const Self::Act) -> Self::Int;
    /// The same integer 16 times.
    unsafe fn splat_int(value: i32) -> Self::Int;
    unsafe fn to_float(value: Self::Int) -> Self::Float;

    /// The same float 16 times.
    unsafe fn splat(value: f32) -> Self::Float;
    /// 16 floats.
    unsafe fn load(from: *const f32) -> Self::Float;
    /// 16 floats of half precision.
    unsafe fn load_half(from: *const half::f16) -> Self::Float;
    /// 16 floats.
    unsafe fn store(to: *mut f32, value: Self::Float);
    unsafe fn mul(a: Self::Float, b: Self::Float) -> Self::Float;
    /// `a · b + c`, rounded once.
    unsafe fn mul_add(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;
    /// Asks for the cache line at `at`, which may be anywhere.
    unsafe fn prefetch(at: *const u8);

    /// Multiplies rows with a part of panels.
    ///
    /// Called only where there are [`TILES`](Self::TILES), with pointers that lead to what is said.
    #[inline(always)]
    unsafe fn run_tiles(_part: &Part<'_>) {
        unreachable!("there are no tiles");
    }

    /// Runs work compiled for the instructions.
    unsafe fn enter<W: Work<Self>>(work: &W, range: Range<usize>);
}

/// Something that is computed in parts, in parallel.
pub trait Work<I: Isa>: Sync {
    /// Computes some of the parts. It is inlined into [`Isa::enter`].
    ///
    /// # Safety
    /// The processor has the instructions of `I`, and no part is computed twice at a time.
    unsafe fn run(&self, parts: Range<usize>);
}

/// [`Isa::enter`] for a set of instructions.
macro_rules! enter_with {
    ($($features:literal)?) => {
        #[inline]
        unsafe fn enter<W: crate::cpu::isa::Work<Self>>(
            work: &W,
            range: std::ops::Range<usize>,
        ) {
            $(#[target_feature(enable = $features)])?
            unsafe fn inner<I: Isa, W: crate::cpu::isa::Work<I>>(
                work: &W,
                range: std::ops::Range<usize>,
            ) {
                // SAFETY: the caller's.
                unsafe { work.run(range) }
            }
            // SAFETY: the caller's.
            unsafe { inner::<Self, W>(work, range) }
        }
    };
}
pub(super) use enter_with;
