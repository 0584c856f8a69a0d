//! What is packed can be read back. Small enough for Miri, which runs these tests.

use super::{pack, random, unpacked};
use crate::cpu::*;

/// Rows and depth that fill no panel and no block, and some that do.
const SHAPES: [(usize, usize); 4] = [(1, 1), (18, 70), (34, 33), (16, 64)];

#[test]
fn packing_keeps_every_float_in_its_place() {
    for (rows, depth) in SHAPES {
        let weight = random(rows * depth, 21);
        let weights = pack(&weight, depth, PackedFormat::F32);
        assert_eq!(unpacked(&weights), weight);
        if rows.is_multiple_of(2) {
            let weights = PackedWeight::new(
                &weight.chunks(depth).collect::<Vec<_>>(),
                PackedFormat::F32,
                Arrangement::Gated,
            )
            .unwrap();
            assert_eq!(unpacked(&weights), weight);
        }
    }
}

#[test]
fn packing_in_8_bits_is_off_by_half_a_step() {
    for (rows, depth) in SHAPES {
        let weight = random(rows * depth, 22);
        let weights = pack(&weight, depth, PackedFormat::Q8);
        for (ours, exact) in unpacked(&weights).iter().zip(&weight) {
            // A step is a 127th of the largest value, which is below 1; its scale has 11 bits.
            assert!(
                (ours - exact).abs() < 0.5 / 127.0 * 1.01 + 1.0 / 2048.0,
                "{ours}, {exact}"
            );
        }
    }
}

#[test]
fn packing_in_4_bits_is_off_by_half_a_step() {
    let (rows, depth) = (17, 65);
    let weight = random(rows * depth, 23);
    let weights = pack(&weight, depth, PackedFormat::Q4);
    for (ours, exact) in unpacked(&weights).iter().zip(&weight) {
        // A step is a 15th of the range, which is below 2; scales and minima have 6 bits.
        assert!((ours - exact).abs() < 0.2, "{ours}, {exact}");
    }
}

#[test]
fn packing_gives_products_that_are_exact_for_whole_numbers() {
    let (rows, depth, columns) = (3, 66, 17);
    let whole = |count: usize, seed| -> Vec<f32> {
        let values = random(count, seed);
        values.into_iter().map(|x| (x * 8.0).round()).collect()
    };
    let (x, weight) = (whole(rows * depth, 24), whole(columns * depth, 25));
    let weights = pack(&weight, depth, PackedFormat::F32);
    let y = product(Instructions::Portable, &weights, &x, 0, Epilogue::default());
    for (i, &y) in y.iter().enumerate() {
        let (x, weight) = (&x[i / columns * depth..], &weight[i % columns * depth..]);
        let exact: f32 = x[..depth].iter().zip(weight).map(|(a, b)| a * b).sum();
        assert_eq!(y, exact);
    }
}
