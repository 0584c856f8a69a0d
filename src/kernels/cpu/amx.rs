//! AMX: tiles of 16 rows by 16 columns, whose products of bytes are summed up 32 at a time.
//!
//! The instructions are written as assembly, because Rust's own functions for them are not stable.
//! What is between them is the arithmetic of the other kernels, so the sums have the same bits. A
//! tile could sum up 64 products, and bf16 tiles could do without the scales of every group, but
//! neither would give those bits, with which a token comes out alike in a prefill and in a step.

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::LazyLock;

use half::f16;

use super::isa::COLUMNS;
use super::layout::{DEPTH, GROUP, PackedFormat};
use super::tile::{ByteTile, MAX_BLOCKS};

/// Rows of a tile.
pub const ROWS: usize = 16;
/// Bytes of the weights of a group in a panel, and of the sums of a tile's row.
const GROUP_BYTES: usize = GROUP * COLUMNS;
const ROW_BYTES: usize = 64;

/// The shapes of tiles: `tmm0` has sums, `tmm1` activations, `tmm2` weights.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: Config = {
    let mut bytes_per_row = [0; 16];
    let mut rows = [0; 16];
    (bytes_per_row[0], rows[0]) = (ROW_BYTES as u16, ROWS as u8);
    (bytes_per_row[1], rows[1]) = (GROUP as u16, ROWS as u8);
    (bytes_per_row[2], rows[2]) = (ROW_BYTES as u16, (GROUP / 4) as u8);
    Config {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes_per_row,
        rows,
    }
};

/// The weights of a panel as signed bytes, `[groups][8][16][4]`.
#[repr(C, align(64))]
struct Expanded([u8; MAX_BLOCKS * DEPTH * COLUMNS]);

/// The integers of a tile.
#[repr(C, align(64))]
struct Sums([i32; ROWS * COLUMNS]);

/// Whether the processor has the instructions, and the kernel lets this process use them. It asks
/// the kernel on the first call.
pub fn is_usable() -> bool {
    static USABLE: LazyLock<bool> = LazyLock::new(|| {
        /// From Linux' `asm/prctl.h`, and the number of the tiles' data in `XCR0`.
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_long = 18;
        const TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
        let features = __cpuid_count(7, 0);
        features.edx & TILE_AND_INT8 == TILE_AND_INT8
            // SAFETY: the call changes nothing but what this process may do.
            && unsafe {
                libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
            } == 0
    });
    *USABLE
}

/// Runs `rows` rows of a tile, a multiple of [`ROWS`].
///
/// # Safety
/// The processor has AVX-512 and the tiles are usable; `tile`'s pointers lead to what it says, it has
/// `MAX_BLOCKS` blocks at most, and `NIBBLES` tells whether the weights are of 4 bits.
#[inline(always)]
pub unsafe fn run<const NIBBLES: bool>(tile: &ByteTile<i8>, rows: usize, panels: usize) {
    let mut expanded = Expanded([0; MAX_BLOCKS * DEPTH * COLUMNS]);
    // SAFETY: the caller's; the tiles' shapes are set before they are used.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly));
        for panel in 0..panels {
            let tile = tile.at_panel(panel);
            expand::<NIBBLES>(&tile, &mut expanded);
            for row in (0..rows).step_by(ROWS) {
                multiply::<NIBBLES>(&tile.at_row(row), &expanded);
            }
        }
        asm!("tilerelease", options(nostack, nomem));
    }
}

/// Bytes of 8 bits without the 128 that was added to them, and bytes of 4 bits each in one.
#[inline(always)]
unsafe fn expand<const NIBBLES: bool>(tile: &ByteTile<i8>, to: &mut Expanded) {
    let to = to.0.as_mut_ptr();
    for block in 0..tile.blocks {
        // SAFETY: the panel has so many blocks, and `to` has room for them.
        unsafe {
            let to = to.add(block * DEPTH * COLUMNS);
            let from = tile.weights.add(block * format::<NIBBLES>().block_bytes());
            for at in (0..GROUP_BYTES).step_by(ROW_BYTES) {
                let [first, second] = match NIBBLES {
                    true => {
                        let both = _mm512_loadu_si512(from.add(at).cast());
                        let mask = _mm512_set1_epi8(15);
                        let high = _mm512_srli_epi16::<4>(both);
                        [both, high].map(|bytes| _mm512_and_si512(bytes, mask))
                    }
                    false => [0, GROUP_BYTES].map(|half| {
                        let bytes = _mm512_loadu_si512(from.add(half + at).cast());
                        _mm512_xor_si512(bytes, _mm512_set1_epi8(-128))
                    }),
                };
                _mm512_store_si512(to.add(at).cast(), first);
                _mm512_store_si512(to.add(GROUP_BYTES + at).cast(), second);
            }
        }
    }
}

const fn format<const NIBBLES: bool>() -> PackedFormat {
    match NIBBLES {
        true => PackedFormat::Q4,
        false => PackedFormat::Q8,
    }
}

/// 16 rows of one panel.
#[inline(always)]
unsafe fn multiply<const NIBBLES: bool>(tile: &ByteTile<i8>, weights: &Expanded) {
    let block_bytes = format::<NIBBLES>().block_bytes();
    let quants = format::<NIBBLES>().quant_bytes();
    // Two, so that one group's are computed while the other's are read.
    let mut ints = [const { Sums([0; ROWS * COLUMNS]) }; 2];
    // SAFETY: all stays within what the caller says that the tile has.
    unsafe {
        let mut sums = [_mm512_setzero_ps(); ROWS];
        if !tile.sums.first {
            for (row, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(tile.sums.at.add(row * tile.sums.stride));
            }
        }
        let groups = 2 * tile.blocks;
        sum_group(tile, weights, 0, &mut ints[0]);
        for group in 0..groups {
            if group + 1 < groups {
                sum_group(tile, weights, group + 1, &mut ints[(group + 1) % 2]);
            }
            let (block, half) = (group / 2, group % 2);
            let ints = ints[group % 2].0.as_ptr();
            let factors = tile.weights.add(block * block_bytes + quants).cast::<f16>();
            let scale = load_half(factors.add(half * COLUMNS));
            let scales = tile.scales.add(block * tile.stride);
            for (row, sum) in sums.iter_mut().enumerate() {
                let factor = &(&(*scales.add(row)))[half];
                let products =
                    _mm512_cvtepi32_ps(_mm512_load_si512(ints.add(row * COLUMNS).cast()));
                let both = _mm512_mul_ps(scale, _mm512_set1_ps(factor.scale));
                *sum = _mm512_fmadd_ps(products, both, *sum);
                if NIBBLES {
                    let min = load_half(factors.add((2 + half) * COLUMNS));
                    *sum = _mm512_fmadd_ps(min, _mm512_set1_ps(factor.offset), *sum);
                }
            }
        }
        for (row, sum) in sums.into_iter().enumerate() {
            _mm512_storeu_ps(tile.sums.at.add(row * tile.sums.stride), sum);
        }
    }
}

/// The sums of a group's 32 products for 16 rows and 16 columns.
#[inline(always)]
unsafe fn sum_group(tile: &ByteTile<i8>, weights: &Expanded, group: usize, to: &mut Sums) {
    let (block, half) = (group / 2, group % 2);
    // SAFETY: the group is the tile's; the instructions read 16 rows of 32 activations and 8 rows of
    // 64 weights, and write 16 rows of 64 bytes.
    unsafe {
        let activations = tile
            .activations
            .add(block * tile.stride * DEPTH + half * GROUP);
        asm!(
            "tilezero tmm0",
            "tileloadd tmm1, [{activations} + {activation_stride}*1]",
            "tileloadd tmm2, [{weights} + {row_bytes}*1]",
            "tdpbssd tmm0, tmm1, tmm2",
            "tilestored [{to} + {row_bytes}*1], tmm0",
            activations = in(reg) activations,
            activation_stride = in(reg) DEPTH,
            weights = in(reg) weights.0.as_ptr().add(group * GROUP_BYTES),
            row_bytes = in(reg) ROW_BYTES,
            to = in(reg) to.0.as_mut_ptr(),
            out("tmm0") _,
            out("tmm1") _,
            out("tmm2") _,
            options(nostack),
        );
    }
}

#[inline(always)]
unsafe fn load_half(from: *const f16) -> __m512 {
    // SAFETY: the caller's pointer and processor.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
}
