//! Attention, rotation and norms.

use super::{random, relative_error};
use crate::Scoring;
use crate::cpu::*;

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
