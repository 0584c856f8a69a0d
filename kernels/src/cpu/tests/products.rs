//! Products with packed weights.

use super::{pack, random, relative_error, unpacked};
use crate::cpu::*;

/// Rows, depth and columns, of which none fills a tile, a block or a panel; then some that do.
const SHAPES: [(usize, usize, usize); 10] = [
    (1, 1, 1),
    (1, 72, 133),
    (2, 33, 17),
    (5, 100, 48),
    (7, 588, 50),
    (13, 1000, 31),
    (4, 64, 16),
    (24, 1024, 96),
    (39, 1100, 40),
    (601, 130, 35),
];
const FORMATS: [PackedFormat; 3] = [PackedFormat::F32, PackedFormat::Q8, PackedFormat::Q4];

/// `x · Wᵀ` in f64.
fn exact(x: &[f32], weight: &[f32], depth: usize) -> Vec<f64> {
    let rows = x.chunks(depth);
    rows.flat_map(|x| {
        weight.chunks(depth).map(|weight| {
            let products = x.iter().zip(weight);
            products.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        })
    })
    .collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Every set of instructions, with none, some and all of the rows of the kind of which there are many.
fn kinds_of_rows(rows: usize) -> impl Iterator<Item = (Instructions, usize)> {
    Instructions::supported()
        .flat_map(move |instructions| [0, rows / 2, rows].map(|many| (instructions, many)))
}

/// What models have and tests forget: outliers, zeros, subnormals.
fn awkward(count: usize) -> Vec<f32> {
    let mut values = random(count, 5);
    for (i, value) in values.iter_mut().enumerate() {
        match i % 37 {
            0 => *value *= 1e4,
            1 => *value = 0.0,
            2 => *value = f32::from_bits(i as u32),
            3 => *value = -1e-38,
            _ if i / 64 % 5 == 4 => *value = 0.0,
            _ => {}
        }
    }
    values
}

#[test]
fn all_instructions_give_the_same_bits() {
    for (rows, depth, columns) in SHAPES {
        for (x, weight) in [
            (random(rows * depth, 1), random(columns * depth, 2)),
            (awkward(rows * depth), awkward(columns * depth)),
        ] {
            for format in FORMATS {
                let weight = pack(&weight, depth, format);
                let portable = product(Instructions::Portable, &weight, &x, 0, Epilogue::default());
                for instructions in Instructions::supported() {
                    let y = product(instructions, &weight, &x, 0, Epilogue::default());
                    assert_eq!(
                        bits(&y),
                        bits(&portable),
                        "{instructions}, {format:?}, {rows} × {depth} × {columns}"
                    );
                }
            }
        }
    }
}

#[test]
fn products_are_near_those_of_f64() {
    for (rows, depth, columns) in SHAPES {
        let (x, weight) = (random(rows * depth, 3), random(columns * depth, 4));
        for (format, tolerance) in FORMATS.into_iter().zip([1e-5, 1e-2, 1e-2]) {
            let weight = pack(&weight, depth, format);
            // The weights' own rounding is another test's.
            let exact = exact(&x, &unpacked(&weight), depth);
            for (instructions, many) in kinds_of_rows(rows) {
                let y = product(instructions, &weight, &x, many, Epilogue::default());
                let error = relative_error(&y, &exact);
                assert!(
                    error < tolerance,
                    "{instructions}, {many} many, {format:?}, {rows} × {depth} × {columns}: {error}"
                );
            }
        }
    }
}

#[test]
fn weights_are_rounded_as_finely_as_their_format_can() {
    let weight = random(48 * 200, 6);
    let exact: Vec<f64> = weight.iter().map(|&value| value.into()).collect();
    for (format, tolerance) in FORMATS.into_iter().zip([0.0, 0.005, 0.08]) {
        let error = relative_error(&unpacked(&pack(&weight, 200, format)), &exact);
        assert!(error <= tolerance, "{format:?}: {error}");
    }
}

#[test]
fn a_row_is_the_same_alone_and_in_company() {
    let (rows, depth, columns) = (57, 1100, 40);
    let x = random(rows * depth, 7);
    for format in FORMATS {
        let weight = pack(&random(columns * depth, 8), depth, format);
        for (instructions, many) in kinds_of_rows(rows) {
            let together = product(instructions, &weight, &x, many, Epilogue::default());
            let rows = x.chunks(depth).zip(together.chunks(columns));
            for (row, (x, together)) in rows.enumerate() {
                let many = usize::from(row < many);
                let alone = product(instructions, &weight, x, many, Epilogue::default());
                assert_eq!(bits(&alone), bits(together), "{instructions}, {format:?}");
            }
        }
    }
}

#[test]
fn outliers_cost_their_own_group_alone() {
    let depth = 2048;
    let mut x = random(4 * depth, 9);
    x.iter_mut().step_by(256).for_each(|value| *value *= 30.0);
    let weight = pack(&random(64 * depth, 10), depth, PackedFormat::Q8);
    let exact = exact(&x, &unpacked(&weight), depth);
    for (instructions, many) in kinds_of_rows(4) {
        let y = product(instructions, &weight, &x, many, Epilogue::default());
        let error = relative_error(&y, &exact);
        assert!(error < 0.015, "{instructions}, {many} many: {error}");
    }
}

#[test]
fn the_epilogue_follows_the_product() {
    let (rows, depth, columns) = (35, 70, 21);
    let (x, weight) = (random(rows * depth, 11), random(columns * depth, 12));
    let (bias, residual) = (random(columns, 13), random(rows * columns, 14));
    let weight = pack(&weight, depth, PackedFormat::Q8);
    for (instructions, many) in kinds_of_rows(rows) {
        let plain = product(instructions, &weight, &x, many, Epilogue::default());
        let epilogue = Epilogue {
            bias: Some(&bias),
            gelu: true,
            residual: Some(&residual),
            ..Epilogue::default()
        };
        let y = product(instructions, &weight, &x, many, epilogue);
        for (i, (y, plain)) in y.iter().zip(&plain).enumerate() {
            let expected = residual[i] + gelu::gelu_tanh(plain + bias[i % columns]);
            assert!(
                (y - expected).abs() < 1e-6,
                "{instructions}: {y}, not {expected}"
            );
        }
    }
}

/// `[out, ranks]`, of which only the first rank counts for the upper half of the rows.
fn up_of(shape: PackedShape, ranks: usize, seed: u64) -> Vec<f32> {
    let mut up = random(shape.out_features * ranks, seed);
    for (row, ranks) in up.chunks_mut(ranks).enumerate() {
        if row < shape.out_features / 2 {
            ranks[1..].fill(0.0);
        }
    }
    up
}

#[test]
fn updates_are_added_to_their_rows_before_anything_else_happens_to_them() {
    let (rows, depth, width, ranks) = (35, 70, 21, 5);
    let (x, weight) = (random(rows * depth, 21), random(2 * width * depth, 22));
    let all: Vec<&[f32]> = weight.chunks(depth).collect();
    let bias = random(2 * width, 23);
    for (format, tolerance) in [(PackedFormat::F32, 1e-5), (PackedFormat::Q8, 1e-2)] {
        for arrangement in [Arrangement::InOrder, Arrangement::Gated] {
            let weight = PackedWeight::new(&all, format, arrangement).unwrap();
            let in_order = PackedWeight::new(&all, format, Arrangement::InOrder).unwrap();
            let ups = [24, 25].map(|seed| up_of(weight.shape, ranks, seed));
            let in_halves = format != PackedFormat::F32;
            let panels = [(&ups[0], None), (&ups[1], Some(bias.as_slice()))]
                .map(|(up, bias)| UpPanels::new(up, ranks, bias, weight.shape, in_halves));
            let values = random(rows * ranks, 26);
            let scaled: Vec<Vec<f32>> = (0..rows)
                .map(|row| {
                    let unit = panels[row % 2].unit();
                    let values = &values[row * ranks..][..ranks];
                    values.iter().map(|value| value * unit).collect()
                })
                .collect();
            // Every third row has none.
            let updates: Vec<_> = (0..rows)
                .map(|row| {
                    (row % 3 > 0).then(|| RowUpdate {
                        up: &panels[row % 2],
                        values: &scaled[row],
                    })
                })
                .collect();
            for (instructions, many) in kinds_of_rows(rows) {
                let plain = product(instructions, &in_order, &x, many, Epilogue::default());
                let epilogue = Epilogue {
                    updates: &updates,
                    ..Epilogue::default()
                };
                let y = product(instructions, &weight, &x, many, epilogue);
                for row in 0..rows {
                    let sum = |column: usize| {
                        let plain = plain[row * 2 * width + column];
                        if row % 3 == 0 {
                            return plain;
                        }
                        let up = &ups[row % 2][column * ranks..][..ranks];
                        let values = &values[row * ranks..][..ranks];
                        let added: f32 = up.iter().zip(values).map(|(a, b)| a * b).sum();
                        plain + added + if row % 2 == 1 { bias[column] } else { 0.0 }
                    };
                    for column in 0..weight.shape.width() {
                        let expected = match arrangement {
                            Arrangement::InOrder => sum(column),
                            Arrangement::Gated => {
                                gelu::gelu_tanh(sum(column)) * sum(width + column)
                            }
                        };
                        let y = y[row * weight.shape.width() + column];
                        assert!(
                            (y - expected).abs() < tolerance * (1.0 + expected.abs()),
                            "{instructions}, {format:?}, {arrangement:?}: {y}, not {expected}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_gate_multiplies_its_counterpart() {
    // A width that no panel fills.
    let (rows, depth, width) = (35, 64, 21);
    let (x, weight) = (random(rows * depth, 15), random(2 * width * depth, 16));
    let in_order = pack(&weight, depth, PackedFormat::Q8);
    let all: Vec<&[f32]> = weight.chunks(depth).collect();
    let gated = PackedWeight::new(&all, PackedFormat::Q8, Arrangement::Gated).unwrap();
    for (instructions, many) in kinds_of_rows(rows) {
        let plain = product(instructions, &in_order, &x, many, Epilogue::default());
        let y = product(instructions, &gated, &x, many, Epilogue::default());
        assert_eq!(y.len(), rows * width);
        for (i, y) in y.iter().enumerate() {
            let plain = &plain[i / width * 2 * width..];
            let expected = gelu::gelu_tanh(plain[i % width]) * plain[width + i % width];
            assert!(
                (y - expected).abs() < 1e-6,
                "{instructions}: {y}, not {expected}"
            );
        }
    }
}

#[test]
fn what_is_not_a_number_reaches_its_row_and_no_other() {
    let (depth, columns) = (96, 20);
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = random(3 * depth, 17);
        x[depth + 40] = value;
        for format in FORMATS {
            let weight = pack(&random(columns * depth, 18), depth, format);
            for (instructions, many) in kinds_of_rows(3) {
                let y = product(instructions, &weight, &x, many, Epilogue::default());
                for (row, y) in y.chunks(columns).enumerate() {
                    let finite = y.iter().all(|y| y.is_finite());
                    assert_eq!(
                        finite,
                        row != 1,
                        "{instructions}, {many} many, {format:?}, {value}, row {row}"
                    );
                }
            }
        }
    }
}
