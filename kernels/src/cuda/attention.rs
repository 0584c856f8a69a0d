//! Attention of images, prefixes and rows that decode.

use candle_core::{CudaDevice, DType, Result, Tensor, bail};

use super::launch::{
    Kernel, THREADS, blocks, count, device, optional_pointer, pointer, size, suffix, uninit,
};
use super::product::{Matrices, Second, multiply};
use super::ptx;
use crate::attention::{CachedPrefix, CachedRows, RowPlaces, Scoring};

/// Keys that one block of `decode_part` attends to.
const PART: usize = 64;

/// Query rows of a prefix or an image that are scored together. Bounds the scores of a prefix of
/// 4096 tokens to `heads · 1024 · 4096` values instead of `heads · 4096²`.
const QUERY_BLOCK: usize = 1024;

/// Slot and position of each packed row.
pub(crate) fn places(rows: &[(u32, u32)], device: &candle_core::Device) -> Result<RowPlaces> {
    let (slots, positions): (Vec<u32>, Vec<u32>) = rows.iter().copied().unzip();
    Ok(RowPlaces {
        slots: Tensor::new(slots, device)?,
        longest: positions.iter().max().map_or(0, |&last| last as usize + 1),
        positions: Tensor::new(positions, device)?,
    })
}

/// See [`attend_rows`](crate::attend_rows).
pub(crate) fn attend_rows(
    qkv: &Tensor,
    (cos, sin): (&Tensor, &Tensor),
    (k, v): (&Tensor, &Tensor),
    rows: &CachedRows<'_>,
    scoring: Scoring,
) -> Result<Tensor> {
    let device = device(qkv)?;
    let (all, width) = qkv.dims2()?;
    let (_, kv_heads, context, head_dim) = k.dims4()?;
    let heads = width / head_dim - 2 * kv_heads;
    let queries = uninit(&device, (all, heads * head_dim), qkv.dtype())?;
    let kernel = Kernel {
        module: ("attention", ptx::ATTENTION),
        name: &format!("rotate_and_keep_{}", suffix(qkv.dtype())?),
        grid: (all as u32, (heads + 2 * kv_heads) as u32, 1),
        threads: head_dim.div_ceil(2).next_multiple_of(32),
        shared: 0,
    };
    let arguments = [
        pointer(qkv)?.into(),
        pointer(cos)?.into(),
        pointer(sin)?.into(),
        pointer(&rows.places.slots)?.into(),
        pointer(&rows.places.positions)?.into(),
        pointer(&queries)?.into(),
        pointer(k)?.into(),
        pointer(v)?.into(),
        size(heads)?,
        size(kv_heads)?,
        size(head_dim)?,
        size(context)?,
    ];
    // SAFETY: as attention.cu says; the places lie within the cache, which the engine sees to.
    unsafe { kernel.launch(&device, &arguments) }?;

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
            Heads {
                heads,
                kv_heads,
                head_dim,
            },
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
        let start = all - rows.decode;
        decode(&device, &queries, start, (k, v), rows, &out, at, scoring)?;
    }
    Ok(out)
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
    device: &CudaDevice,
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
    device: &CudaDevice,
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

/// The rows of `queries` from `start` on, each over what it sees of its slot, into those of `out` from
/// `at` on.
#[expect(
    clippy::too_many_arguments,
    reason = "queries, keys, values, the result, and what they are"
)]
fn decode(
    device: &CudaDevice,
    queries: &Tensor,
    start: usize,
    (k, v): (&Tensor, &Tensor),
    rows: &CachedRows<'_>,
    out: &Tensor,
    at: usize,
    scoring: Scoring,
) -> Result<()> {
    let (_, kv_heads, context, head_dim) = k.dims4()?;
    let heads = queries.dim(1)? / head_dim;
    let group = heads / kv_heads;
    // The kernels are built for so many heads at once.
    let at_once = if group <= 2 { 2 } else { 8 };
    let seen = rows.window.unwrap_or(usize::MAX).min(rows.places.longest);
    let parts = seen.div_ceil(PART);
    let decoding = rows.decode;
    let of_rows = |tensor: &Tensor| pointer(&tensor.narrow(0, start, decoding)?);
    let (slots, positions) = (
        of_rows(&rows.places.slots)?,
        of_rows(&rows.places.positions)?,
    );
    let window = size(rows.window.unwrap_or(0))?;
    let partial = uninit(device, (decoding, heads, parts, head_dim), DType::F32)?;
    let totals = uninit(device, (decoding, heads, parts, 2), DType::F32)?;
    let dtype = suffix(queries.dtype())?;
    let kernel = Kernel {
        module: ("attention", ptx::ATTENTION),
        name: &format!("decode_part_{at_once}_{dtype}"),
        grid: (
            parts as u32,
            (kv_heads * group.div_ceil(at_once)) as u32,
            decoding as u32,
        ),
        threads: THREADS,
        shared: at_once * (head_dim + PART) * size_of::<f32>(),
    };
    let arguments = [
        of_rows(queries)?.into(),
        pointer(k)?.into(),
        pointer(v)?.into(),
        slots.into(),
        positions.into(),
        pointer(&partial)?.into(),
        pointer(&totals)?.into(),
        size(heads)?,
        size(kv_heads)?,
        size(head_dim)?,
        size(context)?,
        window,
        (scoring.scale as f32).into(),
        (scoring.softcap.unwrap_or(0.0) as f32).into(),
    ];
    // SAFETY: as attention.cu says; no row sees more than the longest, nor more than the window.
    unsafe { kernel.launch(device, &arguments) }?;
    let kernel = Kernel {
        name: &format!("decode_combine_{dtype}"),
        grid: (heads as u32, decoding as u32, 1),
        shared: 0,
        ..kernel
    };
    let arguments = [
        pointer(&partial)?.into(),
        pointer(&totals)?.into(),
        positions.into(),
        pointer(&out.narrow(0, at, decoding)?)?.into(),
        size(head_dim)?,
        size(parts)?,
        size(rows.window.unwrap_or(0))?,
    ];
    // SAFETY: as attention.cu says.
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
    let out = uninit(&device, (rows, heads * head_dim), qkv.dtype())?;
    let all = Heads {
        heads,
        kv_heads: heads,
        head_dim,
    };
    let images = rows / patches;
    for image in 0..images {
        let image_rows = qkv.narrow(0, image * patches, patches)?;
        let base = pointer(&image_rows)?;
        let part = |index: usize| Matrices {
            pointer: base + (index * heads * head_dim * qkv.dtype().size_in_bytes()) as u64,
            dtype: qkv.dtype(),
            stride: width,
            batch_stride: head_dim,
        };
        let result = Matrices {
            pointer: pointer(&out.narrow(0, image * patches, patches)?)?,
            dtype: out.dtype(),
            stride: heads * head_dim,
            batch_stride: head_dim,
        };
        attend_all(
            &device,
            all,
            (patches, patches),
            part(0),
            (part(1), part(2)),
            result,
            None,
            scoring,
        )?;
    }
    Ok(out)
}
