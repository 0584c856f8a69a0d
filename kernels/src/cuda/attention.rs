//! Attention of images, prefixes and rows that decode.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::arguments::{
    Kernel, Matrices, Second, THREADS, blocks, count, optional_pointer, pack, size, suffix,
};
use super::launch::{Gpu, device, multiply, multiprocessors, pointer, uninit};
use super::ptx;
use crate::attention::{CachedPrefix, CachedRows, RowPlaces, Scoring};

/// Values of a head that `decode` takes at most, and groups of heads that share a key head.
const MOST_HEAD_DIM: usize = 256;
const MOST_GROUPS: usize = 4;

/// Keys that one block of `decode` attends to: a multiple of the least, up to the most.
const LEAST_PART: usize = 16;
const MOST_PART: usize = 256;

/// Scores of images that are computed together, 4 bytes each and half as much again.
const SCORES: usize = 1 << 25;

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
    let in_prefixes = all - rows.decode;
    let queries = uninit(&device, (in_prefixes, heads * head_dim), qkv.dtype())?;
    if in_prefixes > 0 {
        rotate_and_keep(&device, qkv, angles, (k, v), rows.places, &queries, shape)?;
    }
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
struct Heads {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
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
fn softmax(
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

/// The last rows, which decode, each over what it sees of its slot, into the last rows of `out`.
#[expect(
    clippy::too_many_arguments,
    reason = "queries, keys, values, the result, and what they are"
)]
fn decode(
    device: &Gpu,
    qkv: &Tensor,
    (cos, sin): (&Tensor, &Tensor),
    (k, v): (&Tensor, &Tensor),
    rows: &CachedRows<'_>,
    out: &Tensor,
    Heads {
        heads,
        kv_heads,
        head_dim,
    }: Heads,
    scoring: Scoring,
) -> Result<()> {
    if head_dim > MOST_HEAD_DIM {
        bail!(
            "heads of {head_dim} values are wider than the kernel takes, which is {MOST_HEAD_DIM}"
        )
    }
    let group = heads / kv_heads;
    // The kernels are built for so many heads at once.
    let at_once = if group <= 2 { 2 } else { 8 };
    let groups = group.div_ceil(at_once);
    if groups > MOST_GROUPS {
        bail!("{group} heads share a key head, more than the kernel takes")
    }
    let groups = kv_heads * groups;
    let seen = rows.window.unwrap_or(usize::MAX).min(rows.places.longest);
    let decoding = rows.decode;
    // So small that all of the GPU has work, but that no block waits for another: a multiprocessor
    // runs two at once.
    let blocks = 2 * multiprocessors(device)?;
    let part = seen
        .div_ceil((blocks / (groups * decoding)).max(1))
        .next_multiple_of(LEAST_PART)
        .min(MOST_PART);
    let parts = seen.div_ceil(part);
    let partial = uninit(device, (decoding, heads, parts, head_dim), DType::F32)?;
    let totals = uninit(device, (decoding, heads, parts, 2), DType::F32)?;
    let last = |tensor: &Tensor| pointer(&tensor.narrow(0, tensor.dim(0)? - decoding, decoding)?);
    let kernel = Kernel {
        module: ("attention", ptx::ATTENTION),
        name: &format!("decode_{at_once}_{}", suffix(qkv.dtype())?),
        grid: (parts as u32, groups as u32, decoding as u32),
        threads: THREADS,
        shared: at_once * (head_dim + part).max(parts) * size_of::<f32>(),
    };
    let arguments = [
        last(qkv)?.into(),
        last(cos)?.into(),
        last(sin)?.into(),
        last(&rows.places.slots)?.into(),
        last(&rows.places.positions)?.into(),
        pointer(k)?.into(),
        pointer(v)?.into(),
        pointer(&partial)?.into(),
        pointer(&totals)?.into(),
        pointer(&rows.places.done)?.into(),
        last(out)?.into(),
        size(heads)?,
        size(kv_heads)?,
        size(head_dim)?,
        size(k.dim(2)?)?,
        size(rows.window.unwrap_or(0))?,
        size(part)?,
        (scoring.scale as f32).into(),
        (scoring.softcap.unwrap_or(0.0) as f32).into(),
    ];
    // SAFETY: as attention.cu says; no row sees more than the longest, nor more than the window.
    unsafe { kernel.launch(device, &arguments) }
}

/// See [`attend_images`](crate::attend_images).
pub(crate) fn attend_images(
    qkv: &Tensor,
    patches: usize,
    heads: usize,
    scoring: Scoring,
) -> Result<Tensor> {
    let device = device(qkv)?;
    let (rows, width) = qkv.dims2()?;
    let head_dim = width / 3 / heads;
    if width != 3 * heads * head_dim {
        bail!("queries, keys and values of {heads} heads are not {width} wide")
    }
    let images = rows / patches;
    let by_heads = uninit(&device, (3, images * heads, patches, head_dim), qkv.dtype())?;
    let shape = (heads, patches, head_dim);
    regroup(&device, qkv, &by_heads, 3, shape)?;
    let attended = uninit(&device, (images * heads, patches, head_dim), qkv.dtype())?;
    let at_once = (SCORES / (patches * patches)).max(1);
    for start in (0..images * heads).step_by(at_once) {
        let batch = at_once.min(images * heads - start);
        let part = |index: usize| -> Result<Matrices> {
            let of_all = by_heads.narrow(0, index, 1)?.squeeze(0)?;
            matrices(&of_all.narrow(0, start, batch)?)
        };
        let scores = uninit(&device, (batch, patches, patches), DType::F32)?;
        let weights = uninit(&device, (batch, patches, patches), qkv.dtype())?;
        // SAFETY: the matrices are those of tensors with these shapes.
        unsafe {
            multiply(
                &device,
                batch,
                (patches, patches, head_dim),
                part(0)?,
                (part(1)?, Second::Transposed),
                matrices(&scores)?,
            )
        }?;
        softmax(&device, &scores, None, &weights, scoring)?;
        // SAFETY: as above.
        unsafe {
            multiply(
                &device,
                batch,
                (patches, head_dim, patches),
                matrices(&weights)?,
                (part(2)?, Second::AsIs),
                matrices(&attended.narrow(0, start, batch)?)?,
            )
        }?;
    }
    let out = uninit(&device, (rows, heads * head_dim), qkv.dtype())?;
    regroup(&device, &attended, &out, 1, shape)?;
    Ok(out)
}

/// A tensor `[batch, rows, columns]`.
fn matrices(tensor: &Tensor) -> Result<Matrices> {
    let (_, rows, columns) = tensor.dims3()?;
    Ok(Matrices {
        pointer: pointer(tensor)?,
        dtype: tensor.dtype(),
        stride: columns,
        batch_stride: rows * columns,
    })
}

/// Values of images, from an order by patches to one by heads if there are three `parts`, and back if
/// there is one.
fn regroup(
    device: &Gpu,
    from: &Tensor,
    to: &Tensor,
    parts: usize,
    (heads, patches, head_dim): (usize, usize, usize),
) -> Result<()> {
    let values = from.elem_count();
    let kernel = Kernel {
        module: ("attention", ptx::ATTENTION),
        name: &format!("regroup_{}", suffix(from.dtype())?),
        grid: blocks(values.div_ceil(pack(from.dtype()))),
        threads: THREADS,
        shared: 0,
    };
    let arguments = [
        pointer(from)?.into(),
        pointer(to)?.into(),
        count(values),
        size(parts)?,
        size(heads)?,
        size(patches)?,
        size(head_dim)?,
        (parts == 3).into(),
    ];
    // SAFETY: as attention.cu says; both hold as many values.
    unsafe { kernel.launch(device, &arguments) }
}
