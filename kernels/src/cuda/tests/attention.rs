//! Attention of prefixes, of rows that decode, and of images.

use candle_core::{DType, Device, Result, Tensor};

use super::super::{attend_images, attend_rows, places};
use super::{DTYPES, assert_close, noise, wide};
use crate::attention::{CachedPrefix, CachedRows, Scoring};
use crate::portable;

#[test]
fn rows_over_the_cache() -> Result<()> {
    const CONTEXT: usize = 60;
    for dtype in DTYPES {
        for (heads, kv_heads, head_dim) in [
            (8, 1, 256),
            (4, 2, 128),
            (4, 2, 32),
            (3, 1, 20),
            (2, 2, 64),
            (9, 1, 16),
        ] {
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
pub(super) fn one_query(q: &Tensor, k: &Tensor, v: &Tensor, scoring: Scoring) -> Result<Tensor> {
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
