//! Attention of rows over the cache: prefixes.rs has those of prefixes, decode.rs those that decode.

use candle_core::{DType, Device, Result, Tensor};

use super::arguments::{Kernel, Matrices, THREADS, blocks, count, optional_pointer, size, suffix};
use super::decode::{MOST_GROUPS, decode};
use super::launch::{Gpu, device, pointer, uninit};
use super::prefixes::attend_prefixes;
use super::ptx;
use crate::attention::{CachedRows, REACH, RowPlaces, Scoring};

/// How many heads share a key head, and how wide all of them are.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

/// Slot and position of each packed row, and of prefixes the first row and the number of rows.
pub(crate) fn places(
    rows: &[(u32, u32)],
    spans: &[(u32, u32)],
    kv_heads: usize,
    device: &Device,
) -> Result<RowPlaces> {
    let (slots, positions): (Vec<u32>, Vec<u32>) = rows.iter().copied().unzip();
    let spans = match spans {
        [] => None,
        _ => {
            let numbers = spans.iter().flat_map(|&(first, rows)| [first, rows]);
            let shape = (spans.len(), 2);
            Some(Tensor::from_vec(
                numbers.collect::<Vec<_>>(),
                shape,
                device,
            )?)
        }
    };
    Ok(RowPlaces {
        slots: Tensor::new(slots, device)?,
        longest: positions
            .iter()
            .max()
            .map_or(0, |&last| (last as usize + 1).next_multiple_of(REACH)),
        positions: Tensor::new(positions, device)?,
        spans,
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
    let (_, kv_heads, _, head_dim) = k.dims4()?;
    let heads = width / head_dim - 2 * kv_heads;
    let shape = Heads {
        heads,
        kv_heads,
        head_dim,
    };
    let of_prefixes = match rows.last_only {
        true => rows.prefixes.len(),
        false => all - rows.decode,
    };
    let out = uninit(
        &device,
        (of_prefixes + rows.decode, heads * head_dim),
        qkv.dtype(),
    )?;
    if !rows.prefixes.is_empty() {
        attend_prefixes(&device, qkv, angles, (k, v), rows, &out, shape, scoring)?;
    }
    if rows.decode > 0 {
        decode(&device, qkv, angles, (k, v), rows, &out, shape, scoring)?;
    }
    Ok(out)
}

/// Which keys rows of scores see.
#[derive(Default)]
pub(super) struct Softmax<'a> {
    /// u32 `[prefixes, 2]`, of prefixes that are padded: the first row of each, and the number of its rows.
    pub spans: Option<&'a Tensor>,
    /// Matrices of scores that belong to a prefix.
    pub matrices_of_prefix: usize,
    /// f32 `[queries, keys]` of the only prefix.
    pub mask: Option<&'a Tensor>,
    /// The first row of each matrix, and the queries of a head, which are its rows one after another.
    pub first: usize,
    pub queries: usize,
}

/// Softmax over scores f32 `[matrices, rows, keys]`, into `weights`.
pub(super) fn softmax(
    device: &Gpu,
    scores: &Tensor,
    seen: Softmax<'_>,
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
        optional_pointer(seen.spans)?.into(),
        optional_pointer(seen.mask)?.into(),
        pointer(weights)?.into(),
        count(batch * rows),
        size(rows)?,
        size(keys)?,
        count(seen.matrices_of_prefix * rows),
        size(seen.first)?,
        size(seen.queries.max(1))?,
        (scoring.scale as f32).into(),
        (scoring.softcap.unwrap_or(0.0) as f32).into(),
    ];
    // SAFETY: as attention.cu says.
    unsafe { kernel.launch(device, &arguments) }
}

/// A tensor `[batch, rows, columns]`.
pub(super) fn matrices(tensor: &Tensor) -> Result<Matrices> {
    let (_, rows, columns) = tensor.dims3()?;
    Ok(Matrices {
        pointer: pointer(tensor)?,
        dtype: tensor.dtype(),
        stride: columns,
        batch_stride: rows * columns,
    })
}
