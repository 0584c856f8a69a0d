//! Every set of instructions that this processor has, against plain Rust and against f64.

mod attention;
mod packing;
mod products;

use super::*;

/// Pseudo-random values in ±1 (xorshift).
fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn pack(weight: &[f32], depth: usize, format: PackedFormat) -> PackedWeight {
    let rows: Vec<&[f32]> = weight.chunks(depth).collect();
    PackedWeight::new(&rows, format, Arrangement::InOrder).unwrap()
}

fn unpacked(weight: &PackedWeight) -> Vec<f32> {
    let mut values = vec![0.0; weight.shape.out_features * weight.shape.in_features];
    for (row, values) in values.chunks_mut(weight.shape.in_features).enumerate() {
        weight.unpack_row(row, values);
    }
    values
}

fn relative_error(ours: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(ours.len(), exact.len());
    let differences = ours.iter().zip(exact).map(|(&a, &b)| f64::from(a) - b);
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut differences.into_iter()) / norm(&mut exact.iter().copied()).max(1e-30)
}

#[test]
fn instructions_are_named_and_others_refused() {
    assert_eq!("auto".parse(), Ok(InstructionsChoice::Auto));
    for instructions in Instructions::supported() {
        let choice = InstructionsChoice::Instructions(instructions);
        assert_eq!(instructions.to_string().parse(), Ok(choice));
    }
    let unknown = "sse2".parse::<InstructionsChoice>().unwrap_err();
    assert!(unknown.to_string().contains("avx2"), "{unknown}");
}
