//! Every set of instructions that this processor has, against plain Rust and against f64.

use super::attention::{Heads, attend_all, attend_cached, rotate};
use super::norm::{Norm, norm};
use super::*;
use crate::kernels::Scoring;

/// Rows, depth and columns, of which none fills a tile, a block or a panel; then some that do.
const SHAPES: [(usize, usize, usize); 8] = [
    (1, 1, 1),
    (1, 72, 133),
    (2, 33, 17),
    (5, 100, 48),
    (7, 588, 50),
    (13, 1000, 31),
    (4, 64, 16),
    (24, 1024, 96),
];
const FORMATS: [PackedFormat; 3] = [PackedFormat::F32, PackedFormat::Q8, PackedFormat::Q4];

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
    let mut values = vec![0.0; weight.out_features * weight.in_features];
    for (row, values) in values.chunks_mut(weight.in_features).enumerate() {
        weight.unpack_row(row, values);
    }
    values
}

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

fn relative_error(ours: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(ours.len(), exact.len());
    let differences = ours.iter().zip(exact).map(|(&a, &b)| f64::from(a) - b);
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut differences.into_iter()) / norm(&mut exact.iter().copied()).max(1e-30)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
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
                let portable = product(Instructions::Portable, &weight, &x, Epilogue::default());
                for instructions in Instructions::supported() {
                    let y = product(instructions, &weight, &x, Epilogue::default());
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
            let y = product(Instructions::chosen(), &weight, &x, Epilogue::default());
            let error = relative_error(&y, &exact);
            assert!(
                error < tolerance,
                "{format:?}, {rows} × {depth} × {columns}: {error}"
            );
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
    let (rows, depth, columns) = (11, 300, 40);
    let x = random(rows * depth, 7);
    for format in FORMATS {
        let weight = pack(&random(columns * depth, 8), depth, format);
        for instructions in Instructions::supported() {
            let together = product(instructions, &weight, &x, Epilogue::default());
            for (x, together) in x.chunks(depth).zip(together.chunks(columns)) {
                let alone = product(instructions, &weight, x, Epilogue::default());
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
    let y = product(Instructions::chosen(), &weight, &x, Epilogue::default());
    let error = relative_error(&y, &exact);
    assert!(error < 0.015, "{error}");
}

#[test]
fn the_epilogue_follows_the_product() {
    let (rows, depth, columns) = (3, 70, 21);
    let (x, weight) = (random(rows * depth, 11), random(columns * depth, 12));
    let (bias, residual) = (random(columns, 13), random(rows * columns, 14));
    let weight = pack(&weight, depth, PackedFormat::F32);
    for instructions in Instructions::supported() {
        let plain = product(instructions, &weight, &x, Epilogue::default());
        let epilogue = Epilogue {
            bias: Some(&bias),
            gelu: true,
            residual: Some(&residual),
        };
        let y = product(instructions, &weight, &x, epilogue);
        for (i, (y, plain)) in y.iter().zip(&plain).enumerate() {
            let expected = residual[i] + gelu::gelu_tanh(plain + bias[i % columns]);
            assert!(
                (y - expected).abs() < 1e-6,
                "{instructions}: {y}, not {expected}"
            );
        }
    }
}

#[test]
fn a_gate_multiplies_its_counterpart() {
    // A width that no panel fills.
    let (rows, depth, width) = (3, 64, 21);
    let (x, weight) = (random(rows * depth, 15), random(2 * width * depth, 16));
    let in_order = pack(&weight, depth, PackedFormat::F32);
    let all: Vec<&[f32]> = weight.chunks(depth).collect();
    let gated = PackedWeight::new(&all, PackedFormat::F32, Arrangement::Gated).unwrap();
    assert_eq!(unpacked(&gated), weight);
    for instructions in Instructions::supported() {
        let plain = product(instructions, &in_order, &x, Epilogue::default());
        let y = product(instructions, &gated, &x, Epilogue::default());
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
            for instructions in Instructions::supported() {
                let y = product(instructions, &weight, &x, Epilogue::default());
                for (row, y) in y.chunks(columns).enumerate() {
                    let finite = y.iter().all(|y| y.is_finite());
                    assert_eq!(
                        finite,
                        row != 1,
                        "{instructions}, {format:?}, {value}, row {row}"
                    );
                }
            }
        }
    }
}

/// Heads side by side in rows of `stride` values.
fn heads(values: &[f32], rows: usize, heads: usize, width: usize, stride: usize) -> Heads<'_> {
    Heads {
        values,
        rows,
        heads,
        width,
        row_stride: stride,
        head_stride: width,
    }
}

/// Attention of one query in f64, over the keys that `sees` lets through.
fn attention(
    q: &[f32],
    keys: &[&[f32]],
    values: &[&[f32]],
    scoring: Scoring,
    sees: impl Fn(usize) -> bool,
) -> Vec<f64> {
    let scores: Vec<f64> = keys
        .iter()
        .map(|key| {
            let products = q.iter().zip(*key);
            let score: f64 = products.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let score = score * scoring.scale;
            scoring
                .softcap
                .map_or(score, |cap| cap * (score / cap).tanh())
        })
        .collect();
    let weights: Vec<f64> = scores
        .iter()
        .enumerate()
        .map(|(key, score)| if sees(key) { score.exp() } else { 0.0 })
        .collect();
    let sum: f64 = weights.iter().sum();
    (0..q.len())
        .map(|i| {
            let values = weights.iter().zip(values);
            values.map(|(w, v)| w / sum * f64::from(v[i])).sum()
        })
        .collect()
}

#[test]
fn attention_is_that_of_f64() {
    // Queries that fill no block, a width that fills no panel.
    let (rows, query_heads, kv_heads, width) = (29, 4, 2, 24);
    let stride = (query_heads + 2 * kv_heads) * width;
    let qkv = random(rows * stride, 19);
    let (key_at, value_at) = (query_heads * width, (query_heads + kv_heads) * width);
    let mask: Vec<f32> = (0..rows * rows)
        .map(|i| {
            if i % rows <= i / rows {
                0.0
            } else {
                f32::NEG_INFINITY
            }
        })
        .collect();
    for softcap in [None, Some(2.0)] {
        let scoring = Scoring {
            scale: 0.4,
            softcap,
        };
        for instructions in Instructions::supported() {
            for masked in [false, true] {
                let y = attend_all(
                    instructions,
                    heads(&qkv, rows, query_heads, width, stride),
                    heads(&qkv[key_at..], rows, kv_heads, width, stride),
                    heads(&qkv[value_at..], rows, kv_heads, width, stride),
                    masked.then_some(&mask),
                    scoring,
                );
                let part = |row: usize, at: usize| &qkv[row * stride + at..][..width];
                let exact: Vec<f64> = (0..rows * query_heads)
                    .flat_map(|i| {
                        let (row, head) = (i / query_heads, i % query_heads);
                        let kv = head / (query_heads / kv_heads) * width;
                        let keys: Vec<_> = (0..rows).map(|row| part(row, key_at + kv)).collect();
                        let values: Vec<_> =
                            (0..rows).map(|row| part(row, value_at + kv)).collect();
                        let sees = |key: usize| !masked || key <= row;
                        attention(part(row, head * width), &keys, &values, scoring, sees)
                    })
                    .collect();
                let error = relative_error(&y, &exact);
                assert!(
                    error < 1e-5,
                    "{instructions}, {softcap:?}, {masked}: {error}"
                );
            }
        }
    }
}

#[test]
fn attention_over_the_cache_is_that_of_f64() {
    let (slots, query_heads, kv_heads, keys) = (3, 10, 2, 20);
    let seen = [0..20, 5..6, 3..17];
    for width in [24, 32] {
        let q = random(slots * query_heads * width, 20);
        let [k, v] = [21, 22].map(|seed| random(slots * kv_heads * keys * width, seed));
        let scoring = Scoring {
            scale: 0.3,
            softcap: Some(5.0),
        };
        let cached = |values| heads(values, slots * kv_heads, keys, width, keys * width);
        for instructions in Instructions::supported() {
            let q_heads = heads(&q, slots, query_heads, width, query_heads * width);
            let y = attend_cached(
                instructions,
                q_heads,
                cached(&k),
                cached(&v),
                &seen,
                scoring,
            );
            let exact: Vec<f64> = (0..slots * query_heads)
                .flat_map(|i| {
                    let (slot, head) = (i / query_heads, i % query_heads);
                    let row = slot * kv_heads + head / (query_heads / kv_heads);
                    let rows = |values| -> Vec<&[f32]> {
                        <[f32]>::chunks(values, width)
                            .skip(row * keys)
                            .take(keys)
                            .collect()
                    };
                    let q = &q[i * width..][..width];
                    attention(q, &rows(&k), &rows(&v), scoring, |key| {
                        seen[slot].contains(&key)
                    })
                })
                .collect();
            let error = relative_error(&y, &exact);
            assert!(error < 1e-5, "{instructions}, {width}: {error}");
        }
    }
}

#[test]
fn pairs_are_rotated_by_their_row_s_angle() {
    let (rows, count, width) = (3, 2, 6);
    let x = random(rows * count * width, 23);
    let angles = random(rows * width / 2, 24);
    let cos: Vec<f32> = angles.iter().map(|angle| angle.cos()).collect();
    let sin: Vec<f32> = angles.iter().map(|angle| angle.sin()).collect();
    for instructions in Instructions::supported() {
        let y = rotate(
            instructions,
            heads(&x, rows, count, width, count * width),
            &cos,
            &sin,
        );
        for (i, (x, y)) in x.chunks(width).zip(y.chunks(width)).enumerate() {
            for pair in 0..width / 2 {
                let angle = angles[i / count * width / 2 + pair];
                let (a, b) = (x[pair], x[pair + width / 2]);
                assert!((y[pair] - (a * angle.cos() - b * angle.sin())).abs() < 1e-6);
                assert!((y[pair + width / 2] - (a * angle.sin() + b * angle.cos())).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn norms_are_those_of_f64() {
    let (rows, width) = (5, 73);
    let x = random(rows * width, 25);
    let (weight, bias) = (random(width, 26), random(width, 27));
    let eps = 1e-6;
    for instructions in Instructions::supported() {
        let rms = norm(instructions, &x, Norm::Rms { scale: &weight }, eps);
        let layer = norm(
            instructions,
            &x,
            Norm::Layer {
                weight: &weight,
                bias: &bias,
            },
            eps,
        );
        let (mut exact_rms, mut exact_layer) = (Vec::new(), Vec::new());
        for x in x.chunks(width) {
            let x: Vec<f64> = x.iter().map(|&x| x.into()).collect();
            let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / width as f64;
            let square = mean(&mut x.iter().map(|x| x * x));
            let center = mean(&mut x.iter().copied());
            let variance = mean(&mut x.iter().map(|x| (x - center) * (x - center)));
            for (i, x) in x.iter().enumerate() {
                let (weight, bias) = (f64::from(weight[i]), f64::from(bias[i]));
                exact_rms.push(x / (square + f64::from(eps)).sqrt() * weight);
                let deviation = (variance + f64::from(eps)).sqrt();
                exact_layer.push((x - center) / deviation * weight + bias);
            }
        }
        for (name, y, exact) in [("rms", rms, exact_rms), ("layer", layer, exact_layer)] {
            let error = relative_error(&y, &exact);
            assert!(error < 1e-6, "{instructions}, {name}: {error}");
        }
    }
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
