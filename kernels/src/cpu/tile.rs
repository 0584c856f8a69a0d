//! The innermost loops: a few rows times a few panels, over some blocks of a packed weight.

use std::hint::black_box;

use half::f16;

use super::activations::GroupScale;
use super::isa::{COLUMNS, Isa};
use super::layout::{DEPTH, GROUP, PackedFormat};

/// The most blocks of a tile: all rows go through them before the next, so their weights stay in the
/// cache.
pub const MAX_BLOCKS: usize = 8;
/// Bytes between what is multiplied and what is asked of memory, about.
const AHEAD: usize = 3264;
/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Where a tile of bytes reads and writes.
pub struct ByteTile<A> {
    /// The first block of the first panel.
    pub weights: *const u8,
    /// Bytes from a panel to the next.
    pub panel_bytes: usize,
    pub blocks: usize,
    /// Blocks from the first to the panel's end.
    pub blocks_left: usize,
    /// The first block of the first row.
    pub activations: *const A,
    /// The first block's scales of the first row.
    pub scales: *const [GroupScale; 2],
    /// From a block of a row to its next, in rows.
    pub stride: usize,
    pub sums: Sums,
}

impl<A> ByteTile<A> {
    /// The same tile, starting `row` rows further on.
    ///
    /// # Safety
    /// The tile has more rows than that.
    #[inline(always)]
    pub unsafe fn at_row(&self, row: usize) -> Self {
        // SAFETY: the caller's.
        unsafe {
            Self {
                activations: self.activations.add(row * DEPTH),
                scales: self.scales.add(row),
                sums: Sums {
                    at: self.sums.at.add(row * self.sums.stride),
                    ..self.sums
                },
                ..*self
            }
        }
    }
}

/// Runs `rows` rows of a tile of bytes, [`Isa::ROWS`] at a time, with `panels` ≤ [`Isa::PANELS`].
///
/// # Safety
/// As of [`run_bytes`].
#[inline(always)]
pub unsafe fn run_byte_rows<I: Isa, const NIBBLES: bool>(
    tile: &ByteTile<I::Act>,
    rows: usize,
    panels: usize,
) {
    for row in (0..rows).step_by(I::ROWS) {
        // SAFETY: the caller's.
        unsafe { run_bytes::<I, NIBBLES>(&tile.at_row(row), I::ROWS.min(rows - row), panels) }
    }
}

/// Runs a tile of bytes with `rows` ≤ [`Isa::ROWS`] and `panels` ≤ [`Isa::PANELS`].
///
/// # Safety
/// The processor has the instructions of `I`, `tile`'s pointers lead to what it says, and `NIBBLES`
/// tells whether the weights are of 4 bits.
#[inline(always)]
unsafe fn run_bytes<I: Isa, const NIBBLES: bool>(
    tile: &ByteTile<I::Act>,
    rows: usize,
    panels: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        match (rows, panels) {
            (1, 1) => bytes::<I, NIBBLES, 1, 1>(tile),
            (2, 1) => bytes::<I, NIBBLES, 2, 1>(tile),
            (3, 1) => bytes::<I, NIBBLES, 3, 1>(tile),
            (4, 1) => bytes::<I, NIBBLES, 4, 1>(tile),
            (1, 2) => bytes::<I, NIBBLES, 1, 2>(tile),
            (2, 2) => bytes::<I, NIBBLES, 2, 2>(tile),
            (3, 2) => bytes::<I, NIBBLES, 3, 2>(tile),
            (4, 2) => bytes::<I, NIBBLES, 4, 2>(tile),
            (1, 3) => bytes::<I, NIBBLES, 1, 3>(tile),
            (2, 3) => bytes::<I, NIBBLES, 2, 3>(tile),
            (3, 3) => bytes::<I, NIBBLES, 3, 3>(tile),
            (4, 3) => bytes::<I, NIBBLES, 4, 3>(tile),
            _ => unreachable!("a tile of {rows} × {panels}"),
        }
    }
}

/// Where a tile of floats reads and writes.
pub struct FloatTile {
    /// The first 16 values of the first panel.
    pub weights: *const f32,
    /// From a panel to the next, in values.
    pub panel_stride: usize,
    /// From 16 values of a panel to the next 16, in values.
    pub depth_stride: usize,
    /// How many times 16 values.
    pub depth: usize,
    /// The first value of the first row.
    pub activations: *const f32,
    /// From a row to the next, in values.
    pub stride: usize,
    pub sums: Sums,
}

/// Where sums are, `[rows][panels · 16]`.
#[derive(Clone, Copy)]
pub struct Sums {
    /// What was summed up before, and where the sums go.
    pub at: *mut f32,
    /// From a row to the next, in values.
    pub stride: usize,
    /// Nothing was summed up before.
    pub first: bool,
}

/// Runs a tile of floats with `rows` ≤ [`Isa::FLOAT_ROWS`] and `panels` ≤ [`Isa::PANELS`].
///
/// # Safety
/// The processor has the instructions of `I`, and `tile`'s pointers lead to what it says.
#[inline(always)]
pub unsafe fn run_floats<I: Isa>(tile: &FloatTile, rows: usize, panels: usize) {
    // SAFETY: the caller's.
    unsafe {
        match (rows, panels) {
            (1, 1) => floats::<I, 1, 1>(tile),
            (2, 1) => floats::<I, 2, 1>(tile),
            (3, 1) => floats::<I, 3, 1>(tile),
            (4, 1) => floats::<I, 4, 1>(tile),
            (5, 1) => floats::<I, 5, 1>(tile),
            (6, 1) => floats::<I, 6, 1>(tile),
            (1, 2) => floats::<I, 1, 2>(tile),
            (2, 2) => floats::<I, 2, 2>(tile),
            (3, 2) => floats::<I, 3, 2>(tile),
            (4, 2) => floats::<I, 4, 2>(tile),
            (5, 2) => floats::<I, 5, 2>(tile),
            (6, 2) => floats::<I, 6, 2>(tile),
            (1, 3) => floats::<I, 1, 3>(tile),
            (2, 3) => floats::<I, 2, 3>(tile),
            (3, 3) => floats::<I, 3, 3>(tile),
            (4, 3) => floats::<I, 4, 3>(tile),
            (5, 3) => floats::<I, 5, 3>(tile),
            (6, 3) => floats::<I, 6, 3>(tile),
            _ => unreachable!("a tile of {rows} × {panels}"),
        }
    }
}

/// Sums of `ROWS` rows and `PANELS` panels of bytes.
///
/// In each group of 32, the products are summed up exactly, in integers; the groups are then added
/// in their order, each rounded once. So a row's sums don't depend on the rows beside it.
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "rows and panels index several arrays and offsets alike"
)]
unsafe fn bytes<I: Isa, const NIBBLES: bool, const ROWS: usize, const PANELS: usize>(
    tile: &ByteTile<I::Act>,
) {
    if ROWS > I::ROWS || PANELS > I::PANELS {
        return; // Never called; spares the processor's code its instructions.
    }
    let format = match NIBBLES {
        true => PackedFormat::Q4,
        false => PackedFormat::Q8,
    };
    let (block_bytes, quants) = (format.block_bytes(), format.quant_bytes());
    let blocks_ahead = AHEAD / block_bytes;
    // SAFETY: all stays within what the caller says that the tile has.
    unsafe {
        // A number that the compiler doesn't know: unrolled as a whole, the loop over fours needs
        // more registers than there are.
        let fours = black_box(GROUP / 4);
        let mut sums = load_sums::<I, ROWS, PANELS>(tile.sums);
        for block in 0..tile.blocks {
            // Behind a panel's end are the panels that come next.
            let ahead = match block + blocks_ahead < tile.blocks_left {
                true => blocks_ahead * block_bytes,
                false => blocks_ahead * block_bytes + (PANELS - 1) * tile.panel_bytes,
            };
            let activations = tile.activations.add(block * tile.stride * DEPTH);
            let scales = tile.scales.add(block * tile.stride);
            let weights = tile.weights.add(block * block_bytes);
            for half in 0..2 {
                let mut ints = [[I::splat_int(0); PANELS]; ROWS];
                if !NIBBLES {
                    for (row, ints) in ints.iter_mut().enumerate() {
                        *ints = [I::splat_int((&(*scales.add(row)))[half].correction); PANELS];
                    }
                }
                for four in 0..fours {
                    let at = four * COLUMNS * 4;
                    for panel in 0..PANELS {
                        let from = weights.add(panel * tile.panel_bytes + at);
                        let from = if NIBBLES {
                            from
                        } else {
                            from.add(half * GROUP * COLUMNS)
                        };
                        let weights = match (NIBBLES, half) {
                            (false, _) => I::weights(from),
                            (true, 0) => I::low_nibbles(from),
                            (true, _) => I::high_nibbles(from),
                        };
                        if ROWS == 1 && (half == 0 || !NIBBLES) {
                            // A row alone is as quick as memory: ask for what comes.
                            I::prefetch(from.wrapping_add(ahead));
                        }
                        for row in 0..ROWS {
                            let with = activations.add(row * DEPTH + half * GROUP + four * 4);
                            ints[row][panel] = I::dot(ints[row][panel], weights, with);
                        }
                    }
                }
                for panel in 0..PANELS {
                    let factors = weights.add(panel * tile.panel_bytes + quants);
                    if ROWS == 1 && (half == 0 || NIBBLES) {
                        I::prefetch(factors.wrapping_add(half * LINE + ahead));
                    }
                    let factors = factors.cast::<f16>();
                    let scale = I::load_half(factors.add(half * COLUMNS));
                    for row in 0..ROWS {
                        let factor = &(&(*scales.add(row)))[half];
                        let both = I::mul(scale, I::splat(factor.scale));
                        let products = I::to_float(ints[row][panel]);
                        let sum = I::mul_add(products, both, sums[row][panel]);
                        sums[row][panel] = match NIBBLES {
                            true => {
                                let min = I::load_half(factors.add((2 + half) * COLUMNS));
                                I::mul_add(min, I::splat(factor.offset), sum)
                            }
                            false => sum,
                        };
                    }
                }
            }
        }
        store_sums::<I, ROWS, PANELS>(tile.sums, sums);
    }
}

/// Sums of `ROWS` rows and `PANELS` panels of floats, in the order of `depth`.
#[inline(always)]
unsafe fn floats<I: Isa, const ROWS: usize, const PANELS: usize>(tile: &FloatTile) {
    if ROWS > I::FLOAT_ROWS || PANELS > I::PANELS {
        return; // Never called; spares the processor's code its instructions.
    }
    // SAFETY: all stays within what the caller says that the tile has.
    unsafe {
        let mut sums = load_sums::<I, ROWS, PANELS>(tile.sums);
        for k in 0..tile.depth {
            let mut weights = [I::splat(0.0); PANELS];
            for (panel, weights) in weights.iter_mut().enumerate() {
                let panel = tile.weights.add(panel * tile.panel_stride);
                let from = panel.add(k * tile.depth_stride);
                if ROWS == 1 {
                    I::prefetch(from.cast::<u8>().wrapping_add(AHEAD));
                }
                *weights = I::load(from);
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let with = I::splat(*tile.activations.add(row * tile.stride + k));
                for (sum, &weights) in sums.iter_mut().zip(&weights) {
                    *sum = I::mul_add(weights, with, *sum);
                }
            }
        }
        store_sums::<I, ROWS, PANELS>(tile.sums, sums);
    }
}

#[inline(always)]
unsafe fn load_sums<I: Isa, const ROWS: usize, const PANELS: usize>(
    before: Sums,
) -> [[I::Float; PANELS]; ROWS] {
    // SAFETY: there are so many sums.
    unsafe {
        let mut sums = [[I::splat(0.0); PANELS]; ROWS];
        if !before.first {
            for (row, sums) in sums.iter_mut().enumerate() {
                for (panel, sum) in sums.iter_mut().enumerate() {
                    *sum = I::load(before.at.add(row * before.stride + panel * COLUMNS));
                }
            }
        }
        sums
    }
}

#[inline(always)]
unsafe fn store_sums<I: Isa, const ROWS: usize, const PANELS: usize>(
    to: Sums,
    sums: [[I::Float; PANELS]; ROWS],
) {
    for (row, sums) in sums.into_iter().enumerate() {
        for (panel, sum) in sums.into_iter().enumerate() {
            // SAFETY: there is room for so many sums.
            unsafe { I::store(to.at.add(row * to.stride + panel * COLUMNS), sum) }
        }
    }
}
