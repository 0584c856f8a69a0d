//! The kernels, emulated, against plain formulas in f32.

mod low_rank;
mod quantized;

use candle_core::{D, DType, Device, Result, Tensor};

use super::{
    attend_images, attend_rows, finish, layer_norm, likeliest, logits, places, product, rms_norm,
};
use crate::attention::{CachedPrefix, CachedRows, Scoring};
use crate::token::{Neighbours, Report};
use crate::{Epilogue, Norm, portable, token};

const DTYPES: [DType; 2] = [DType::F32, DType::BF16];

/// Values that bf16 has, between -1 and 1; others for another seed.
fn noise(shape: &[usize], seed: usize, dtype: DType) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| {
        let bits = ((i + 1) * (2 * seed + 1)) as u64;
        let bits = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let bits = bits.wrapping_mul(0xd6e8_feb8_6659_fd93);
        (bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..count).map(value).collect();
    let rounded = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    rounded
        .to_dtype(DType::BF16)
        .unwrap()
        .to_dtype(dtype)
        .unwrap()
}

fn wide(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F32).unwrap()
}

#[track_caller]
fn assert_close(what: &str, ours: &Tensor, right: &Tensor) {
    let square = |x: Tensor| {
        x.sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap()
    };
    let dtype = ours.dtype();
    let (ours, right) = (wide(ours), wide(right));
    assert_eq!(ours.dims(), right.dims(), "{what}");
    let error = (square((&ours - &right).unwrap()) / square(right)).sqrt();
    let allowed = if dtype == DType::F32 { 1e-5 } else { 1e-2 };
    assert!(error < allowed, "{what}, {dtype:?}: off by {error}");
}

#[test]
fn norms() -> Result<()> {
    for dtype in DTYPES {
        for width in [16, 66, 72, 2304] {
            let (x, add) = (noise(&[3, width], 1, dtype), noise(&[3, width], 2, dtype));
            let (scale, bias) = (
                noise(&[width], 3, DType::F32),
                noise(&[width], 4, DType::F32),
            );
            let right = candle_nn::ops::rms_norm(&wide(&x), &scale, 1e-6)?;
            assert_close("rms", &rms_norm(&x, &scale, None, 1e-6)?, &right);
            let ours = rms_norm(&x, &scale, Some(&add), 1e-6)?;
            assert_close("rms added", &ours, &(wide(&add) + right)?);
            let right = candle_nn::ops::layer_norm(&wide(&x), &scale, &bias, 1e-6)?;
            assert_close("layer", &layer_norm(&x, &scale, &bias, 1e-6)?, &right);
        }
    }
    Ok(())
}

#[test]
fn products() -> Result<()> {
    for dtype in DTYPES {
        for (rows, width, out) in [(1, 64, 10), (1, 520, 33), (1, 66, 10), (3, 64, 10)] {
            for gated in [false, true] {
                let x = noise(&[rows, width], 1, dtype);
                let weight = noise(&[if gated { 2 * out } else { out }, width], 2, dtype);
                let scale = noise(&[width], 3, DType::F32);
                let (bias, add) = (noise(&[out], 4, dtype), noise(&[rows, out], 5, dtype));
                let norm = Some(Norm {
                    scale: &scale,
                    eps: 1e-6,
                });
                let epilogue = Epilogue {
                    bias: Some(&bias),
                    gelu: true,
                    residual: Some(&add),
                    ..Epilogue::default()
                };
                let normed = candle_nn::ops::rms_norm(&wide(&x), &scale, 1e-6)?;
                for (norm, x) in [(norm, &normed), (None, &wide(&x))] {
                    let y = x.matmul(&wide(&weight).t()?)?;
                    let what = format!("{rows} rows, {width} to {out}, gated {gated}");
                    let x = noise(&[rows, width], 1, dtype);
                    if gated {
                        let right = portable::gelu_gated(&y)?;
                        let ours = product(&x, norm, &weight, true, Epilogue::default())?;
                        assert_close(&what, &ours, &right);
                    } else {
                        let ours = product(&x, norm, &weight, false, Epilogue::default())?;
                        assert_close(&what, &ours, &y);
                        let right = y.broadcast_add(&wide(&bias))?.gelu()?.add(&wide(&add))?;
                        let ours = product(&x, norm, &weight, false, epilogue)?;
                        assert_close(&what, &ours, &right);
                    }
                }
            }
        }
        let y = noise(&[5, 18], 6, dtype);
        let ours = finish(&y, true, Epilogue::default())?;
        assert_close("gated", &ours, &portable::gelu_gated(&wide(&y))?);
    }
    Ok(())
}

#[test]
fn rows_over_the_cache() -> Result<()> {
    const CONTEXT: usize = 60;
    for dtype in DTYPES {
        for (heads, kv_heads, head_dim) in
            [(8, 1, 256), (4, 2, 32), (3, 1, 20), (2, 2, 64), (9, 1, 16)]
        {
            for (window, softcap) in [(None, None), (Some(7), Some(5.0))] {
                let scoring = Scoring {
                    scale: 0.3,
                    softcap,
                };
                let what = format!("{heads} heads, {kv_heads} of keys, {head_dim}, {window:?}");
                let shape = [6, kv_heads, CONTEXT, head_dim];
                let (k, v) = (noise(&shape, 1, dtype), noise(&shape, 2, dtype));
                // Three prefixes, the last one continued, and rows that decode after others.
                let prefixes = [(3u32, 0usize, 5usize), (5, 5, 3), (1, 8, 9)];
                let (in_prefixes, continued) = (17, 9);
                let decoding = [(0u32, 40u32), (4, 3), (2, 0)];
                let of_prefix = |&(slot, _, len): &(u32, usize, usize)| {
                    (0..len as u32).map(move |position| (slot, position))
                };
                let rows: Vec<(u32, u32)> = prefixes
                    .iter()
                    .flat_map(of_prefix)
                    .chain(decoding)
                    .collect();
                let count = rows.len();
                let qkv = noise(&[count, (heads + 2 * kv_heads) * head_dim], 3, dtype);
                let angles = noise(&[count, head_dim / 2], 4, dtype);
                let (cos, sin) = (angles.cos()?, angles.sin()?);
                let hidden: Vec<f32> = (0..continued * continued)
                    .map(|i| {
                        if i % continued > i / continued + 2 {
                            f32::NEG_INFINITY
                        } else {
                            0.0
                        }
                    })
                    .collect();
                let mask = Tensor::from_vec(hidden, (continued, continued), &Device::Cpu)?;
                let mask_of = |len| (len == continued).then_some(&mask);
                let (kept_k, kept_v) = (k.copy()?, v.copy()?);
                let spans = prefixes.map(|(_, start, len)| (start as u32, len as u32));
                let places = places(&rows, &spans, kv_heads, &Device::Cpu)?;
                for last_only in [false, true] {
                    let prefix = |(_, _, len)| CachedPrefix {
                        len,
                        mask: mask_of(len),
                    };
                    let cached = CachedRows {
                        places: &places,
                        prefixes: prefixes.into_iter().map(prefix).collect(),
                        decode: decoding.len(),
                        last_only,
                        window,
                    };
                    let ours = attend_rows(&qkv, (&cos, &sin), (&k, &v), &cached, scoring)?;

                    let split = wide(&qkv).reshape((count, heads + 2 * kv_heads, head_dim))?;
                    let turned = |start, n| {
                        portable::rotate(&split.narrow(1, start, n)?, &wide(&cos), &wide(&sin))
                    };
                    let (q, new_k) = (turned(0, heads)?, turned(heads, kv_heads)?);
                    let new_v = split.narrow(1, heads + kv_heads, kv_heads)?;
                    let round = |x: Tensor| wide(&x.to_dtype(dtype).unwrap());
                    let (q, new_k) = (round(q), round(new_k));
                    let mut right = Vec::new();
                    for (_, start, len) in prefixes {
                        let part = |x: &Tensor| x.narrow(0, start, len);
                        let y = portable::attend_all(
                            &part(&q)?,
                            &part(&new_k)?,
                            &part(&new_v)?,
                            mask_of(len),
                            scoring,
                        )?;
                        let skipped = if last_only { len - 1 } else { 0 };
                        right.push(y.narrow(0, skipped, len - skipped)?);
                    }
                    for (index, &(slot, position)) in decoding.iter().enumerate() {
                        let row = in_prefixes + index;
                        let before = |cache: &Tensor, new: &Tensor| {
                            let old = wide(cache).get(slot as usize)?.transpose(0, 1)?;
                            Tensor::cat(
                                &[
                                    &old.narrow(0, 0, position as usize)?,
                                    &new.narrow(0, row, 1)?,
                                ],
                                0,
                            )
                        };
                        let (k, v) = (before(&kept_k, &new_k)?, before(&kept_v, &new_v)?);
                        let end = position as usize + 1;
                        let begin = window.map_or(0, |window| end.saturating_sub(window));
                        let seen = |x: &Tensor| x.narrow(0, begin, end - begin);
                        let (k, v) = (seen(&k)?, seen(&v)?);
                        right.push(one_query(&q.narrow(0, row, 1)?, &k, &v, scoring)?);
                    }
                    assert_close(&what, &ours, &Tensor::cat(&right, 0)?);
                    for (row, &(slot, position)) in rows.iter().enumerate() {
                        for (cache, new) in [(&k, &new_k), (&v, &new_v)] {
                            let kept = cache.get(slot as usize)?.narrow(1, position as usize, 1)?;
                            let kept = kept.squeeze(1)?;
                            assert_close("kept", &kept, &new.get(row)?);
                        }
                    }
                    let done = places.done.to_vec1::<u32>()?;
                    assert!(done.iter().all(|&count| count == 0), "{what}");
                }
            }
        }
    }
    Ok(())
}

/// One query `[1, heads, head_dim]` over keys `[keys, kv_heads, head_dim]`; gives `[1, heads · head_dim]`.
fn one_query(q: &Tensor, k: &Tensor, v: &Tensor, scoring: Scoring) -> Result<Tensor> {
    let (_, heads, head_dim) = q.dims3()?;
    let (keys, kv_heads, _) = k.dims3()?;
    let by_head = |x: &Tensor| x.transpose(0, 1)?.unsqueeze(0)?.contiguous();
    let mask = Tensor::zeros((1, 1, 1, keys), DType::F32, &Device::Cpu)?;
    let q = q.reshape((1, kv_heads, heads / kv_heads, head_dim))?;
    portable::attend_cached(&q, &by_head(k)?, &by_head(v)?, &mask, scoring)?
        .reshape((1, heads * head_dim))
}

#[test]
fn images() -> Result<()> {
    let (images, patches, heads) = (3, 10, 4);
    let scoring = Scoring {
        scale: 0.5,
        softcap: None,
    };
    for dtype in DTYPES {
        for head_dim in [72, 12, 6] {
            let qkv = noise(&[images * patches, 3 * heads * head_dim], 1, dtype);
            let ours = attend_images(&qkv, patches, heads, scoring)?;
            let split = wide(&qkv).reshape((images, patches, 3 * heads, head_dim))?;
            let right = (0..images)
                .map(|image| {
                    let part = |i: usize| split.get(image)?.narrow(1, i * heads, heads);
                    portable::attend_all(&part(0)?, &part(1)?, &part(2)?, None, scoring)
                })
                .collect::<Result<Vec<_>>>()?;
            assert_close(
                &format!("{head_dim} values"),
                &ours,
                &Tensor::cat(&right, 0)?,
            );
        }
    }
    Ok(())
}

#[test]
fn logits_are_cut_and_squashed() -> Result<()> {
    for dtype in DTYPES {
        for table in [40, 41] {
            let y = noise(&[3, table], 1, dtype);
            let right = wide(&y).narrow(1, 0, 37)?;
            assert_close("as they are", &logits(&y, 37, None)?, &right);
            let squashed = ((right / 0.7)?.tanh()? * 0.7)?;
            assert_close("squashed", &logits(&y, 37, Some(0.7))?, &squashed);
        }
    }
    Ok(())
}

#[test]
fn the_likeliest_token_and_its_report() -> Result<()> {
    const VOCAB: usize = 5000;
    let mut rows: Vec<Vec<f32>> = (0..4)
        .map(|row| noise(&[VOCAB], row, DType::F32).to_vec1().unwrap())
        .collect();
    // Equal ones, in the same part and in another: the lowest id counts.
    rows[1][4000] = 3.0;
    rows[1][1234] = 3.0;
    rows[1][1230] = 3.0;
    rows[2][77] = f32::NAN;
    rows[3][4999] = f32::INFINITY;
    let report = Report {
        top: 3,
        neighbours: Some(Neighbours {
            ids: 1000..1235,
            radius: 5,
        }),
        temperature: 1.5,
    };
    let all = Tensor::from_vec(rows.concat(), (4, VOCAB), &Device::Cpu)?;
    let reports = [
        Some(report.clone()),
        Some(report.clone()),
        Some(report.clone()),
        None,
    ];
    let found = likeliest(&all, &reports)?;
    let finite: Vec<bool> = found.iter().map(|row| row.finite).collect();
    assert_eq!(finite, [true, true, false, false]);
    assert_eq!(found[0].id, all.argmax(D::Minus1)?.to_vec1::<u32>()?[0]);
    assert_eq!(found[1].id, 1230);
    assert!(found[2].logprobs.is_none());
    for row in 0..2 {
        let right = token::logprobs(&rows[row], found[row].id, &report);
        let ours = found[row].logprobs.clone().expect("a report was asked for");
        assert!(
            (ours.chosen - right.chosen).abs() < 1e-5,
            "{ours:?}, {right:?}"
        );
        assert!((ours.near - right.near).abs() < 1e-5, "{ours:?}, {right:?}");
        let total = token::total(&rows[row], report.temperature);
        assert!((found[row].total - total).abs() < 1e-5, "{total}");
        assert_eq!(ours.top.len(), 3);
        for ((id, logprob), (right_id, right)) in ours.top.iter().zip(&right.top) {
            assert_eq!(id, right_id);
            assert!((logprob - right).abs() < 1e-5);
        }
    }
    Ok(())
}
