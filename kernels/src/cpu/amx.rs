//! AMX: tiles of 16 rows by 16 columns, whose products of bf16 are summed up in f32.
//!
//! Weights become bf16 just before they are multiplied, a few blocks of two panels at a time, for all
//! rows. Tiles of bytes would be twice as quick, but every 32 of their products have a scale of
//! their own, and the way out of a tile and back takes several times as long as the products.
//!
//! The instructions are written as assembly, because Rust's own functions for them are not stable.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::sync::LazyLock;

use half::f16;

use super::bf16_rows::{CHUNK, PAIR, PAIR_STEP, STEP, TILE_ROWS};
use super::isa::COLUMNS;
use super::layout::{DEPTH, GROUP, PackedFormat};
use super::tile::Sums;
use super::tiled_product::{Part, TILE_PANELS};

/// Bytes of a tile's row, and values of a tile.
const ROW_BYTES: usize = 64;
const TILE: usize = STEP * COLUMNS;
/// Bytes of a line of the cache.
const LINE: usize = 64;
/// Steps of a block of a panel, and blocks of a chunk.
const STEPS: usize = DEPTH / STEP;
const CHUNK_BLOCKS: usize = CHUNK / STEPS;

/// The shape of all tiles: 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: Config = {
    let (mut bytes_per_row, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        bytes_per_row[tile] = ROW_BYTES as u16;
        rows[tile] = TILE_ROWS as u8;
        tile += 1;
    }
    Config {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes_per_row,
        rows,
    }
};

/// A chunk of the weights of two panels as bf16: `[steps][2 panels][16][16 columns][2]`.
#[repr(C, align(64))]
struct Expanded([MaybeUninit<u16>; CHUNK * TILE * TILE_PANELS]);

/// Whether the processor has the instructions, and the kernel lets this process use them. It asks
/// the kernel on the first call.
pub fn is_usable() -> bool {
    static USABLE: LazyLock<bool> = LazyLock::new(|| {
        /// From Linux' `asm/prctl.h`, and the number of the tiles' data in `XCR0`.
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_long = 18;
        const TILE_AND_BF16: u32 = 1 << 24 | 1 << 22;
        let features = __cpuid_count(7, 0);
        features.edx & TILE_AND_BF16 == TILE_AND_BF16
            // SAFETY: the call changes nothing but what this process may do.
            && unsafe {
                libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
            } == 0
    });
    *USABLE
}

/// Multiplies rows with a part of panels. It also writes the sums of rows that fill up the last tile,
/// and of a second panel that isn't there.
///
/// # Safety
/// The processor has AVX-512 and the tiles are usable; pointers lead to what [`Part`] says.
#[inline(always)]
pub unsafe fn run(part: &Part<'_>) {
    // SAFETY: the tiles' shapes are set before they are used.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) };
    let mut weights = Expanded([MaybeUninit::uninit(); CHUNK * TILE * TILE_PANELS]);
    for start in part.depth.clone().step_by(CHUNK_BLOCKS) {
        let blocks = CHUNK_BLOCKS.min(part.depth.end - start);
        // SAFETY: the caller's; `weights` has room for the blocks.
        unsafe { expand(part, start, blocks, &mut weights) }
        let steps = blocks * STEPS;
        let rows = part.rows.chunk_at(start * STEPS, steps, part.block.start);
        let pairs = rows.chunks_exact(steps * PAIR_STEP);
        let ahead = Ahead::new(part, start);
        for (row, pair) in part.block.clone().step_by(PAIR).zip(pairs) {
            ahead.prefetch(part, row - part.block.start);
            // SAFETY: the caller's; the weights of so many steps were expanded.
            unsafe {
                let sums = Sums {
                    at: part
                        .sums
                        .at
                        .add((row - part.block.start) * part.sums.stride),
                    first: part.sums.first && start == part.depth.start,
                    ..part.sums
                };
                match part.block.end - row > TILE_ROWS {
                    true => multiply_pair(pair.as_ptr(), &weights, steps, sums),
                    false => multiply_tile(pair.as_ptr(), &weights, steps, sums),
                }
            }
        }
    }
    // SAFETY: nothing in the tiles is needed.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// The weights of the chunk that comes next, of which some are asked of memory with every pair of rows.
struct Ahead {
    /// In the first panel.
    weights: *const u8,
    /// Lines of the cache in a panel.
    lines: usize,
}

impl Ahead {
    /// What follows the chunk that begins with the block `start`: further down, or the next panels'.
    #[inline(always)]
    fn new(part: &Part<'_>, start: usize) -> Self {
        let block_bytes = match part.nibbles {
            true => PackedFormat::Q4.block_bytes(),
            false => PackedFormat::Q8.block_bytes(),
        };
        let (panels, next) = match start + CHUNK_BLOCKS {
            next if next < part.depth.end => (0, next),
            _ => (TILE_PANELS, part.depth.start),
        };
        Self {
            weights: part
                .weights
                .wrapping_add(panels * part.panel_bytes + next * block_bytes),
            lines: (CHUNK_BLOCKS * block_bytes).div_ceil(LINE),
        }
    }

    /// Asks for the share of the pair that begins `row` rows after the part's first.
    #[inline(always)]
    fn prefetch(&self, part: &Part<'_>, row: usize) {
        let all = part.block.len();
        let share = |row: usize| self.lines * row.min(all) / all;
        for panel in 0..TILE_PANELS {
            for line in share(row)..share(row + PAIR) {
                let at = self
                    .weights
                    .wrapping_add(panel * part.panel_bytes + line * LINE);
                // SAFETY: a prefetch touches nothing, wherever it leads.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
            }
        }
    }
}

/// Some blocks of the part's panels as bf16.
#[inline(always)]
unsafe fn expand(part: &Part<'_>, start: usize, blocks: usize, to: &mut Expanded) {
    for panel in 0..TILE_PANELS {
        // In place of a panel that isn't there, the one before.
        let from = part.panels.min(panel + 1) - 1;
        // SAFETY: the caller's.
        unsafe {
            let panel_start = part.weights.add(from * part.panel_bytes);
            let to = to.0.as_mut_ptr().add(panel * TILE).cast();
            match part.nibbles {
                true => {
                    let weights = panel_start.add(start * PackedFormat::Q4.block_bytes());
                    expand_4_bits(weights, blocks, to);
                }
                false => {
                    let weights = panel_start.add(start * PackedFormat::Q8.block_bytes());
                    expand_8_bits(weights, blocks, to);
                }
            }
        }
    }
}

/// Two tiles of rows by two panels.
#[inline(always)]
unsafe fn multiply_pair(rows: *const u16, weights: &Expanded, steps: usize, sums: Sums) {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "test {first:e}, {first:e}",
            "jnz 2f",
            "tileloadd tmm0, [{c} + {stride}*1]",
            "tileloadd tmm1, [{c} + {stride}*1 + 64]",
            "tileloadd tmm2, [{d} + {stride}*1]",
            "tileloadd tmm3, [{d} + {stride}*1 + 64]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "3:",
            "tileloadd tmm4, [{a} + {row_bytes}*1]",
            "tileloadd tmm6, [{b} + {row_bytes}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {row_bytes}*1 + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a} + {row_bytes}*1 + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 2048",
            "add {b}, 2048",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c} + {stride}*1], tmm0",
            "tilestored [{c} + {stride}*1 + 64], tmm1",
            "tilestored [{d} + {stride}*1], tmm2",
            "tilestored [{d} + {stride}*1 + 64], tmm3",
            first = in(reg) u32::from(sums.first),
            c = in(reg) sums.at,
            d = in(reg) sums.at.add(TILE_ROWS * sums.stride),
            stride = in(reg) sums.stride * size_of::<f32>(),
            a = inout(reg) rows => _,
            b = inout(reg) weights.0.as_ptr() => _,
            row_bytes = in(reg) ROW_BYTES,
            steps = inout(reg) steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// One tile of rows by two panels.
#[inline(always)]
unsafe fn multiply_tile(rows: *const u16, weights: &Expanded, steps: usize, sums: Sums) {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "test {first:e}, {first:e}",
            "jnz 2f",
            "tileloadd tmm0, [{c} + {stride}*1]",
            "tileloadd tmm1, [{c} + {stride}*1 + 64]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "3:",
            "tileloadd tmm4, [{a} + {row_bytes}*1]",
            "tileloadd tmm6, [{b} + {row_bytes}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {row_bytes}*1 + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 2048",
            "add {b}, 2048",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c} + {stride}*1], tmm0",
            "tilestored [{c} + {stride}*1 + 64], tmm1",
            first = in(reg) u32::from(sums.first),
            c = in(reg) sums.at,
            stride = in(reg) sums.stride * size_of::<f32>(),
            a = inout(reg) rows => _,
            b = inout(reg) weights.0.as_ptr() => _,
            row_bytes = in(reg) ROW_BYTES,
            steps = inout(reg) steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// The floats that have the byte at bit `BIT` in the upper bits of their mantissa, which are
/// `128 + byte · 128 / 2^bits`; `MASK` has the bits of the byte there.
///
/// As quick as a conversion, and the bytes need no sign.
macro_rules! in_mantissa {
    ($shifted:expr, $mask:expr) => {
        // (shifted & mask) | the bits of 128.0
        _mm512_ternarylogic_epi32::<0xEA>(
            $shifted,
            _mm512_set1_epi32($mask),
            _mm512_set1_epi32(0x4300_0000),
        )
    };
}

/// Blocks of 8 bits: a byte is the weight plus 128.
#[inline(always)]
unsafe fn expand_8_bits(weights: *const u8, blocks: usize, to: *mut u16) {
    const MASK: i32 = 0xff << 15;
    for block in 0..blocks {
        // SAFETY: the panel has so many blocks, and `to` has room for the steps of them.
        unsafe {
            let from = weights.add(block * PackedFormat::Q8.block_bytes());
            let scales = from.add(PackedFormat::Q8.quant_bytes()).cast::<f16>();
            for half in 0..2 {
                let scale = load_half(scales.add(half * COLUMNS));
                // A float is 128 + (weight + 128) / 2.
                let unit = _mm512_add_ps(scale, scale);
                let less = _mm512_mul_ps(scale, _mm512_set1_ps(-384.0));
                let weight = |bits| _mm512_fmadd_ps(bits, unit, less);
                let to = to.add((2 * block + half) * TILE_PANELS * TILE);
                for four in 0..GROUP / 4 {
                    let bytes = _mm512_loadu_si512(from.add((half * 8 + four) * ROW_BYTES).cast());
                    let first = in_mantissa!(_mm512_slli_epi32::<15>(bytes), MASK);
                    let second = in_mantissa!(_mm512_slli_epi32::<7>(bytes), MASK);
                    let third = in_mantissa!(_mm512_srli_epi32::<1>(bytes), MASK);
                    let fourth = in_mantissa!(_mm512_srli_epi32::<9>(bytes), MASK);
                    let [first, second, third, fourth] = [first, second, third, fourth]
                        .map(|bits| weight(_mm512_castsi512_ps(bits)));
                    let to = to.add(four * 4 * COLUMNS);
                    _mm512_store_si512(to.cast(), side_by_side(first, second));
                    _mm512_store_si512(to.add(2 * COLUMNS).cast(), side_by_side(third, fourth));
                }
            }
        }
    }
}

/// Blocks of 4 bits, the first group's in the lower halves of the bytes.
#[inline(always)]
unsafe fn expand_4_bits(weights: *const u8, blocks: usize, to: *mut u16) {
    const MASK: i32 = 0xf << 19;
    for block in 0..blocks {
        // SAFETY: the panel has so many blocks, and `to` has room for the steps of them.
        unsafe {
            let from = weights.add(block * PackedFormat::Q4.block_bytes());
            let scales = from.add(PackedFormat::Q4.quant_bytes()).cast::<f16>();
            for half in 0..2 {
                let scale = load_half(scales.add(half * COLUMNS));
                let min = load_half(scales.add((2 + half) * COLUMNS));
                // A float is 128 + 8 · weight.
                let unit = _mm512_mul_ps(scale, _mm512_set1_ps(0.125));
                let less = _mm512_fnmsub_ps(scale, _mm512_set1_ps(16.0), min);
                let weight = |bits| _mm512_fmadd_ps(bits, unit, less);
                let to = to.add((2 * block + half) * TILE_PANELS * TILE);
                for four in 0..GROUP / 4 {
                    let bytes = _mm512_loadu_si512(from.add(four * ROW_BYTES).cast());
                    let bytes = match half {
                        0 => bytes,
                        _ => _mm512_srli_epi32::<4>(bytes),
                    };
                    let first = in_mantissa!(_mm512_slli_epi32::<19>(bytes), MASK);
                    let second = in_mantissa!(_mm512_slli_epi32::<11>(bytes), MASK);
                    let third = in_mantissa!(_mm512_slli_epi32::<3>(bytes), MASK);
                    let fourth = in_mantissa!(_mm512_srli_epi32::<5>(bytes), MASK);
                    let [first, second, third, fourth] = [first, second, third, fourth]
                        .map(|bits| weight(_mm512_castsi512_ps(bits)));
                    let to = to.add(four * 4 * COLUMNS);
                    _mm512_store_si512(to.cast(), side_by_side(first, second));
                    _mm512_store_si512(to.add(2 * COLUMNS).cast(), side_by_side(third, fourth));
                }
            }
        }
    }
}

/// Rounds to bf16, and puts each of `left` beside that of `right`.
#[inline(always)]
unsafe fn side_by_side(left: __m512, right: __m512) -> __m512i {
    // SAFETY: the caller's processor.
    unsafe {
        let half = _mm512_set1_epi32(0x8000);
        let [left, right] =
            [left, right].map(|value| _mm512_add_epi32(_mm512_castps_si512(value), half));
        _mm512_mask_blend_epi16(0xaaaa_aaaa, _mm512_srli_epi32::<16>(left), right)
    }
}

#[inline(always)]
unsafe fn load_half(from: *const f16) -> __m512 {
    // SAFETY: the caller's pointer and processor.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
}
