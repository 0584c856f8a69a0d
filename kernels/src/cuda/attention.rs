//! Attention of prefixes and, with decode.rs, of rows that decode.

use candle_core::{DType, Device, Result, Tensor};

use super::arguments::{
    Kernel, Matrices, Second, THREADS, blocks, count, optional_pointer, size, suffix,
};
use super::decode::{MOST_GROUPS, decode};
use super::launch::{Gpu, device, multiply, pointer, uninit};
use super::ptx;
use crate::attention::{CachedPrefix, CachedRows, RowPlaces, Scoring};

/// Query rows of a prefix that are scored together. Bounds the scores of a prefix of
/// 4096 tokens to `heads · 1024 · 4096` values instead of `heads · 4096²`.
const QUERY_BLOCK: usize = 1024;

/// Slot and position of each packed row.
pub(crate) fn places(rows: &[(u32, u32)], kv_heads: usize, device: &Device) -> Result<RowPlaces> {
    let (slots, positions): (Vec<u32>, Vec<u32>) = rows.iter().copied().unzip();
    Ok(RowPlaces {
        slots: Tensor::new(slots, device)?,
        longest: positions.iter().max().map_or(0, |&last| last as usize + 1),
        positions: Tensor::new(positions, device)?,
        done: Tensor::zeros(rows.len() * kv_heads * MOST_GROUPS, DType::U32, device)?,
    })
}

/// See [`attend_rows`](crate::attend_rows).
pub(crate) fn attend_rows(
    qkv: &Tensor,
    angles: (&Tensor, &Tensor),
    (k, v): (&Tensor, &Tensor),
    rows: &CachedRows<'_>,
    scoring: Scoring,
) -> Result<Tensor> {
    let device = device(qkv)?;
    let (all, width) = qkv.dims2()?;
    let (_, kv_heads, context, head_dim) = k.dims4()?;
    let heads = width / head_dim - 2 * kv_heads;
    let shape = Heads {
        heads,
        kv_heads,
        head_dim,
    };
    let wanted = |prefix: &CachedPrefix<'_>| match rows.last_only {
        true => 1,
        false => prefix.len,
    };
    let of_prefixes: usize = rows.prefixes.iter().map(wanted).sum();
    let out = uninit(
        &device,
        (of_prefixes + rows.decode, heads * head_dim),
        qkv.dtype(),
    )?;
    let in_prefixes = all - rows.decode;
    if in_prefixes > 0 {
        let queries = uninit(&device, (in_prefixes, heads * head_dim), qkv.dtype())?;
        rotate_and_keep(&device, qkv, angles, (k, v), rows.places, &queries, shape)?;
        let mut at = 0;
        for prefix in &rows.prefixes {
            let count = wanted(prefix);
            let first = prefix.len - count;
            let cached = |cache: &Tensor| -> Result<Matrices> {
                Ok(Matrices {
                    pointer: pointer(&cache.narrow(0, prefix.slot, 1)?)?,
                    dtype: cache.dtype(),
                    stride: head_dim,
                    batch_stride: context * head_dim,
                })
            };
            let of_rows = |tensor: &Tensor, row: usize| -> Result<Matrices> {
                Ok(Matrices {
                    pointer: pointer(&tensor.narrow(0, row, count)?)?,
                    dtype: tensor.dtype(),
                    stride: heads * head_dim,
                    batch_stride: head_dim,
                })
            };
            let mask = prefix.mask.map(|mask| mask.narrow(0, first, count));
            attend_all(
                &device,
                shape,
                (count, prefix.len),
                of_rows(&queries, prefix.start + first)?,
                (cached(k)?, cached(v)?),
                of_rows(&out, at)?,
                mask.transpose()?.as_ref(),
                scoring,
            )?;
            at += count;
        }
    }
    if rows.decode > 0 {
        decode(&device, qkv, angles, (k, v), rows, &out, shape, scoring)?;
    }
    Ok(out)
}

/// Of the rows of prefixes: rotates queries to `queries`, and keys into the cache, where values go, too.
fn rotate_and_keep(
    device: &Gpu,
    qkv: &Tensor,
    (cos, sin): (&Tensor, &Tensor),
    (k, v): (&Tensor, &Tensor),
    places: &RowPlaces,
    queries: &Tensor,
    Heads {
        heads,
        kv_heads,
        head_dim,
    }: Heads,
) -> Result<()> {
    let kernel = Kernel {
        module: ("attention", ptx::ATTENTION),
        name: &format!("rotate_and_keep_{}", suffix(qkv.dtype())?),
        grid: (queries.dim(0)? as u32, (heads + 2 * kv_heads) as u32, 1),
        threads: head_dim.div_ceil(2).next_multiple_of(32),
        shared: 0,
    };
    let arguments = [
        pointer(qkv)?.into(),
        pointer(cos)?.into(),
        pointer(sin)?.into(),
        pointer(&places.slots)?.into(),
        pointer(&places.positions)?.into(),
        pointer(queries)?.into(),
        pointer(k)?.into(),
        pointer(v)?.into(),
        size(heads)?,
        size(kv_heads)?,
        size(head_dim)?,
        size(k.dim(2)?)?,
    ];
    // SAFETY: as attention.cu says; the places lie within the cache, which the engine sees to.
    unsafe { kernel.launch(device, &arguments) }
}

/// How many heads share a key head, and how wide all of them are.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

/// `queries` rows over `keys` rows, which all see each other but for the mask f32 `[queries, keys]`.
/// Batches of matrices are heads.
#[expect(
    clippy::too_many_arguments,
    reason = "queries, keys, values, the result, and what they are"
)]
fn attend_all(
    device: &Gpu,
    Heads {
        heads,
        kv_heads,
        head_dim,
    }: Heads,
    (queries, keys): (usize, usize),
    q: Matrices,
    (k, v): (Matrices, Matrices),
    out: Matrices,
    mask: Option<&Tensor>,
    scoring: Scoring,
) -> Result<()> {
    // Heads that share a key head are one call; where none does, all of them are.
    let group = heads / kv_heads;
    let (batch, kv_stride) = match group {
        1 => (heads, k.batch_stride),
        _ => (group, 0),
    };
    let of_rows = |matrices: Matrices, head: usize, row: usize| {
        let values = head * matrices.batch_stride + row * matrices.stride;
        Matrices {
            pointer: matrices.pointer + (values * matrices.dtype.size_in_bytes()) as u64,
            ..matrices
        }
    };
    for start in (0..queries).step_by(QUERY_BLOCK) {
        let rows = QUERY_BLOCK.min(queries - start);
        let scores = uninit(device, (heads, rows, keys), DType::F32)?;
        let weights = uninit(device, (heads, rows, keys), q.dtype)?;
        let square = |tensor: &Tensor, head: usize| -> Result<Matrices> {
            let matrices = Matrices {
                pointer: pointer(tensor)?,
                dtype: tensor.dtype(),
                stride: keys,
                batch_stride: rows * keys,
            };
            Ok(of_rows(matrices, head, 0))
        };
        for head in (0..heads).step_by(batch) {
            let keys_of_all = Matrices {
                batch_stride: kv_stride,
                ..of_rows(k, head / group, 0)
            };
            // SAFETY: the first query rows of each head, and its key head's first keys.
            unsafe {
                multiply(
                    device,
                    batch,
                    (rows, keys, head_dim),
                    of_rows(q, head, start),
                    (keys_of_all, Second::Transposed),
                    square(&scores, head)?,
                )
            }?;
        }
        let mask = mask.map(|mask| mask.narrow(0, start, rows)).transpose()?;
        softmax(device, &scores, mask.as_ref(), &weights, scoring)?;
        for head in (0..heads).step_by(batch) {
            let values_of_all = Matrices {
                batch_stride: kv_stride,
                ..of_rows(v, head / group, 0)
            };
            // SAFETY: as above, and the result has the queries' shape.
            unsafe {
                multiply(
                    device,
                    batch,
                    (rows, head_dim, keys),
                    square(&weights, head)?,
                    (values_of_all, Second::AsIs),
                    of_rows(out, head, start),
                )
            }?;
        }
    }
    Ok(())
}

/// Softmax over scores f32 `[batch, rows, keys]`, with a mask f32 `[rows, keys]`, into `weights`.
pub(super) fn softmax(
    device: &Gpu,
    scores: &Tensor,
    mask: Option<&Tensor>,
    weights: &Tensor,
    scoring: Scoring,
) -> Result<()> {
    let (batch, rows, keys) = scores.dims3()?;
    let kernel = Kernel {
        module: ("attention", ptx::ATTENTION),
        name: &format!("softmax_{}", suffix(weights.dtype())?),
        grid: blocks(batch * rows * 32),
        threads: THREADS,
        shared: 0,
    };
    let arguments = [
        pointer(scores)?.into(),
        optional_pointer(mask)?.into(),
        pointer(weights)?.into(),
        count(batch * rows),
        size(rows)?,
        size(keys)?,
        (scoring.scale as f32).into(),
        (scoring.softcap.unwrap_or(0.0) as f32).into(),
    ];
    // SAFETY: as attention.cu says.
    unsafe { kernel.launch(device, &arguments) }
}
