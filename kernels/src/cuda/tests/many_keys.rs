//! Attention over more keys than a warp keeps in registers, and of as many rows as a server has slots.

use candle_core::{D, DType, Device, Result, Tensor};

use super::super::attention::{Softmax, softmax};
use super::super::launch::{Gpu, with_multiprocessors};
use super::super::{attend_images, attend_rows, places};
use super::attention::one_query;
use super::{DTYPES, assert_close, noise, wide};
use crate::attention::{CachedPrefix, CachedRows, Scoring};
use crate::portable;

/// Scores of a row that a warp keeps in registers: see attention.cu.
const KEPT: usize = 512;

/// Keys of a prefix that has more.
const LENGTH: usize = 1100;

/// Padded to the longest: keys after a prefix's own weigh nothing.
#[test]
fn softmax_of_prefixes_of_many_lengths() -> Result<()> {
    const KEYS: usize = 1104;
    const ROWS: usize = 3;
    let lengths = [1100u32, 1104, 513, 512, 300, 1];
    let spans: Vec<u32> = lengths.iter().flat_map(|&keys| [0, keys]).collect();
    let spans = Tensor::from_vec(spans, (lengths.len(), 2), &Device::Cpu)?;
    for dtype in DTYPES {
        for softcap in [None, Some(5.0)] {
            let scoring = Scoring {
                scale: 9.0,
                softcap,
            };
            let scores = noise(&[lengths.len(), ROWS, KEYS], 1, DType::F32);
            let weights = noise(&[lengths.len(), ROWS, KEYS], 2, dtype);
            let seen = Softmax {
                spans: Some(&spans),
                matrices_of_prefix: 1,
                ..Softmax::default()
            };
            softmax(&Gpu, &scores, seen, &weights, scoring)?;
            for (prefix, &keys) in lengths.iter().enumerate() {
                let keys = keys as usize;
                let row = scored(&scores.get(prefix)?.narrow(1, 0, keys)?, scoring)?;
                let right = candle_nn::ops::softmax(&row, D::Minus1)?;
                let right = right.pad_with_zeros(1, 0, KEYS - keys)?;
                let what = format!("{keys} keys of {KEYS}, {softcap:?}");
                assert_close(&what, &weights.get(prefix)?, &right);
            }
        }
    }
    Ok(())
}

/// What the softmax is taken of.
fn scored(scores: &Tensor, Scoring { scale, softcap }: Scoring) -> Result<Tensor> {
    let scaled = (scores * scale)?;
    match softcap {
        Some(cap) => (scaled / cap)?.tanh()? * cap,
        None => Ok(scaled),
    }
}

/// A prefix of 1,100 keys, with a mask and without, all its rows and the last one only.
#[test]
fn a_long_prefix() -> Result<()> {
    let mask = causal(LENGTH)?;
    assert_prefix(DType::F32, 1, 8, Some(&mask), false)?;
    for dtype in DTYPES {
        for mask in [None, Some(&mask)] {
            assert_prefix(dtype, 4, 32, mask, true)?;
        }
    }
    Ok(())
}

/// Compares the attention of one prefix with the plain formula, all its rows or the last one.
#[track_caller]
fn assert_prefix(
    dtype: DType,
    heads: usize,
    head_dim: usize,
    mask: Option<&Tensor>,
    last_only: bool,
) -> Result<()> {
    let scoring = Scoring {
        scale: 3.0,
        softcap: None,
    };
    let shape = [1, 1, LENGTH, head_dim];
    let (k, v) = (noise(&shape, 1, dtype), noise(&shape, 2, dtype));
    let qkv = noise(&[LENGTH, (heads + 2) * head_dim], 3, dtype);
    let angles = noise(&[LENGTH, head_dim / 2], 4, dtype);
    let (cos, sin) = (angles.cos()?, angles.sin()?);
    let rows: Vec<_> = (0..LENGTH as u32).map(|position| (0, position)).collect();
    let cached = CachedRows {
        places: &places(&rows, &[(0, LENGTH as u32)], 1, &Device::Cpu)?,
        prefixes: vec![CachedPrefix { len: LENGTH, mask }],
        decode: 0,
        last_only,
        window: None,
    };
    let ours = attend_rows(&qkv, (&cos, &sin), (&k, &v), &cached, scoring)?;

    let split = wide(&qkv).reshape((LENGTH, heads + 2, head_dim))?;
    let turned = |start, n| rotated(&split.narrow(1, start, n)?, (&cos, &sin), dtype);
    let right = portable::attend_all(
        &turned(0, heads)?,
        &turned(heads, 1)?,
        &split.narrow(1, heads + 1, 1)?,
        mask,
        scoring,
    )?;
    let skipped = if last_only { LENGTH - 1 } else { 0 };
    let right = right.narrow(0, skipped, LENGTH - skipped)?;
    let masked = mask.is_some();
    let what = format!("{heads} heads, masked {masked}, only the last {last_only}");
    assert_close(&what, &ours, &right);
    Ok(())
}

/// f32 `[len, len]` that hides what comes after a query, and one key before.
fn causal(len: usize) -> Result<Tensor> {
    let value = |i| match i % len > i / len || i % len == KEPT + 3 {
        true => f32::NEG_INFINITY,
        false => 0.0,
    };
    Tensor::from_vec(
        (0..len * len).map(value).collect(),
        (len, len),
        &Device::Cpu,
    )
}

/// Queries or keys, rounded to `dtype` as in the cache.
fn rotated(x: &Tensor, (cos, sin): (&Tensor, &Tensor), dtype: DType) -> Result<Tensor> {
    Ok(wide(
        &portable::rotate(x, &wide(cos), &wide(sin))?.to_dtype(dtype)?,
    ))
}

#[test]
fn images_of_many_patches() -> Result<()> {
    let (patches, heads, head_dim) = (600, 2, 12);
    let scoring = Scoring {
        scale: 2.0,
        softcap: None,
    };
    for dtype in DTYPES {
        let qkv = noise(&[patches, 3 * heads * head_dim], 1, dtype);
        let ours = attend_images(&qkv, patches, heads, scoring)?;
        let split = wide(&qkv).reshape((patches, 3 * heads, head_dim))?;
        let part = |i: usize| split.narrow(1, i * heads, heads);
        let right = portable::attend_all(&part(0)?, &part(1)?, &part(2)?, None, scoring)?;
        assert_close(&format!("{patches} patches"), &ours, &right);
    }
    Ok(())
}

/// 64 rows, each with as many keys as no other, on GPUs that give a row one part or several.
#[test]
fn a_full_batch_decodes() -> Result<()> {
    const ROWS: usize = 64;
    const CONTEXT: usize = 700;
    let (heads, kv_heads, head_dim) = (8, 1, 32);
    let scoring = Scoring {
        scale: 0.7,
        softcap: None,
    };
    let position = |row: u32| match row % 16 {
        7 => 699 - row,
        _ => row * 3 % 64 * 2,
    };
    // The slots in another order than the rows.
    let rows: Vec<(u32, u32)> = (0..ROWS as u32)
        .map(|row| (row * 37 % ROWS as u32, position(row)))
        .collect();
    for (dtype, multiprocessors) in [(DType::F32, 8), (DType::BF16, 8), (DType::BF16, 132)] {
        let shape = [ROWS, kv_heads, CONTEXT, head_dim];
        let (k, v) = (noise(&shape, 1, dtype), noise(&shape, 2, dtype));
        let (kept_k, kept_v) = (wide(&k), wide(&v));
        let qkv = noise(&[ROWS, (heads + 2 * kv_heads) * head_dim], 3, dtype);
        let angles = noise(&[ROWS, head_dim / 2], 4, dtype);
        let (cos, sin) = (angles.cos()?, angles.sin()?);
        let places = places(&rows, &[], kv_heads, &Device::Cpu)?;
        let cached = CachedRows {
            places: &places,
            prefixes: Vec::new(),
            decode: ROWS,
            last_only: false,
            window: None,
        };
        let ours = with_multiprocessors(multiprocessors, || {
            attend_rows(&qkv, (&cos, &sin), (&k, &v), &cached, scoring)
        })?;

        let split = wide(&qkv).reshape((ROWS, heads + 2 * kv_heads, head_dim))?;
        let turned = |start, n| rotated(&split.narrow(1, start, n)?, (&cos, &sin), dtype);
        let (q, new_k) = (turned(0, heads)?, turned(heads, kv_heads)?);
        let new_v = split.narrow(1, heads + kv_heads, kv_heads)?.contiguous()?;
        for (row, &(slot, position)) in rows.iter().enumerate() {
            let seen = |cache: &Tensor, new: &Tensor| {
                let old = cache.get(slot as usize)?.transpose(0, 1)?;
                let old = old.narrow(0, 0, position as usize)?;
                Tensor::cat(&[&old, &new.narrow(0, row, 1)?], 0)
            };
            let (k, v) = (seen(&kept_k, &new_k)?, seen(&kept_v, &new_v)?);
            let right = one_query(&q.narrow(0, row, 1)?, &k, &v, scoring)?;
            let what = format!("row {row}, {position} before, {multiprocessors} multiprocessors");
            assert_close(&what, &ours.narrow(0, row, 1)?, &right);
        }
        let done = places.done.to_vec1::<u32>()?;
        assert!(done.iter().all(|&count| count == 0), "{multiprocessors}");
    }
    Ok(())
}
