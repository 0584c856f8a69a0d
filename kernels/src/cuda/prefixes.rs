//! Attention of prefixes, several at once.

use std::ops::Range;

use candle_core::{DType, Result, Tensor, bail};

use super::arguments::{
    Kernel, Matrices, Second, THREADS, blocks, count, optional_pointer, pack, size, suffix,
};
use super::attention::{Heads, Softmax, matrices, softmax};
use super::launch::{Gpu, SCORES, multiply, pointer, uninit};
use super::ptx;
use crate::attention::{CachedRows, Scoring};

/// Rows of scores are multiples of so many values long, so that cuBLAS reads them in whole packs.
const ALIGNED: usize = 8;

/// Prefixes that attend in the same launches, padded to the longest.
struct Together<'a> {
    prefixes: Range<usize>,
    longest: usize,
    /// Of a prefix that is alone.
    mask: Option<&'a Tensor>,
}

/// Every prefix's rows over themselves, into the first rows of `out`.
#[expect(
    clippy::too_many_arguments,
    reason = "queries, keys, values, the result, and what they are"
)]
pub(super) fn attend_prefixes(
    device: &Gpu,
    qkv: &Tensor,
    angles: (&Tensor, &Tensor),
    cache: (&Tensor, &Tensor),
    rows: &CachedRows<'_>,
    out: &Tensor,
    heads: Heads,
    scoring: Scoring,
) -> Result<()> {
    let Some(spans) = &rows.places.spans else {
        bail!("prefixes need to say where each begins")
    };
    for part in together(rows, heads.heads) {
        let spans = spans.narrow(0, part.prefixes.start, part.prefixes.len())?;
        let put_together = rotate_and_keep(device, qkv, angles, cache, rows, &part, &spans, heads)?;
        let attended = attend(device, &put_together, &part, &spans, heads, scoring)?;
        match rows.last_only {
            true => {
                let out = out.narrow(0, part.prefixes.start, part.prefixes.len())?;
                merge_heads(device, &attended, None, &out)?;
            }
            false => merge_heads(device, &attended, Some(&spans), out)?,
        }
    }
    Ok(())
}

/// As many prefixes at once as there may be scores. One with a mask goes alone.
fn together<'a>(rows: &CachedRows<'a>, heads: usize) -> Vec<Together<'a>> {
    let mut parts: Vec<Together<'a>> = Vec::new();
    for (index, prefix) in rows.prefixes.iter().enumerate() {
        let longest = prefix.len.next_multiple_of(ALIGNED);
        if let Some(part) = parts.last_mut()
            && part.mask.is_none()
            && prefix.mask.is_none()
        {
            let longest = longest.max(part.longest);
            let queries = if rows.last_only { 1 } else { longest };
            if (part.prefixes.len() + 1) * heads * queries * longest <= SCORES {
                part.prefixes.end = index + 1;
                part.longest = longest;
                continue;
            }
        }
        parts.push(Together {
            prefixes: index..index + 1,
            longest,
            mask: prefix.mask,
        });
    }
    parts
}

/// By prefix and head, with zeros after each prefix's rows.
struct PutTogether {
    /// `[prefixes, heads, longest or 1, head_dim]`.
    queries: Tensor,
    /// `[prefixes · kv_heads, longest, head_dim]`.
    keys: Tensor,
    /// The same.
    values: Tensor,
}

/// Rotates queries and keys, and keeps keys and values in the cache.
#[expect(
    clippy::too_many_arguments,
    reason = "queries, keys, values, and what they are"
)]
fn rotate_and_keep(
    device: &Gpu,
    qkv: &Tensor,
    (cos, sin): (&Tensor, &Tensor),
    (k, v): (&Tensor, &Tensor),
    rows: &CachedRows<'_>,
    part: &Together<'_>,
    spans: &Tensor,
    Heads {
        heads,
        kv_heads,
        head_dim,
    }: Heads,
) -> Result<PutTogether> {
    let (prefixes, longest) = (part.prefixes.len(), part.longest);
    let wanted = if rows.last_only { 1 } else { longest };
    let of_heads = |shape| uninit(device, shape, qkv.dtype());
    let put_together = PutTogether {
        queries: uninit(device, (prefixes, heads, wanted, head_dim), qkv.dtype())?,
        keys: of_heads((prefixes * kv_heads, longest, head_dim))?,
        values: of_heads((prefixes * kv_heads, longest, head_dim))?,
    };
    let kernel = Kernel {
        module: ("attention", ptx::ATTENTION),
        name: &format!("rotate_and_keep_{}", suffix(qkv.dtype())?),
        grid: (
            (prefixes * longest) as u32,
            (heads + 2 * kv_heads) as u32,
            1,
        ),
        threads: head_dim.div_ceil(2).next_multiple_of(32),
        shared: 0,
    };
    let arguments = [
        pointer(qkv)?.into(),
        pointer(cos)?.into(),
        pointer(sin)?.into(),
        pointer(&rows.places.slots)?.into(),
        pointer(&rows.places.positions)?.into(),
        pointer(spans)?.into(),
        pointer(&put_together.queries)?.into(),
        pointer(&put_together.keys)?.into(),
        pointer(&put_together.values)?.into(),
        pointer(k)?.into(),
        pointer(v)?.into(),
        size(heads)?,
        size(kv_heads)?,
        size(head_dim)?,
        size(k.dim(2)?)?,
        size(longest)?,
        rows.last_only.into(),
    ];
    // SAFETY: as attention.cu says; the places lie within the cache, which the engine sees to.
    unsafe { kernel.launch(device, &arguments) }?;
    Ok(put_together)
}

/// Gives `[prefixes, heads, longest or 1, head_dim]`. All heads of a key head are rows of one matrix.
fn attend(
    device: &Gpu,
    of: &PutTogether,
    part: &Together<'_>,
    spans: &Tensor,
    Heads {
        heads,
        kv_heads,
        head_dim,
    }: Heads,
    scoring: Scoring,
) -> Result<Tensor> {
    let (keys, dtype) = (part.longest, of.queries.dtype());
    let queries = of.queries.dim(2)?;
    let (batch, all_rows) = (of.keys.dim(0)?, heads / kv_heads * queries);
    let attended = uninit(device, of.queries.shape().clone(), dtype)?;
    let mask = match (part.mask, queries) {
        (Some(mask), 1) => Some(mask.narrow(0, mask.dim(0)? - 1, 1)?),
        (mask, _) => mask.cloned(),
    };
    // Only a single prefix may have more.
    let at_once = (SCORES / (batch * keys)).clamp(1, all_rows);
    for start in (0..all_rows).step_by(at_once) {
        let rows = at_once.min(all_rows - start);
        let scores = uninit(device, (batch, rows, keys), DType::F32)?;
        let weights = uninit(device, (batch, rows, keys), dtype)?;
        let from_start = |tensor: &Tensor| -> Result<Matrices> {
            Ok(Matrices {
                pointer: pointer(tensor)? + (start * head_dim * dtype.size_in_bytes()) as u64,
                dtype,
                stride: head_dim,
                batch_stride: all_rows * head_dim,
            })
        };
        // SAFETY: the rows of all matrices, and all keys.
        unsafe {
            multiply(
                device,
                batch,
                (rows, keys, head_dim),
                from_start(&of.queries)?,
                (matrices(&of.keys)?, Second::Transposed),
                matrices(&scores)?,
            )
        }?;
        let seen = Softmax {
            spans: Some(spans),
            matrices_of_prefix: kv_heads,
            mask: mask.as_ref(),
            first: start,
            queries,
        };
        softmax(device, &scores, seen, &weights, scoring)?;
        // SAFETY: as above; values lie as keys do, and the result as queries.
        unsafe {
            multiply(
                device,
                batch,
                (rows, head_dim, keys),
                matrices(&weights)?,
                (matrices(&of.values)?, Second::AsIs),
                from_start(&attended)?,
            )
        }?;
    }
    Ok(attended)
}

/// Of prefixes or images `from` `[blocks, heads, rows, head_dim]` to `to`, whose rows are heads side by
/// side. With `spans`, a block goes to its own rows in `to`; without, all go there one after another.
pub(super) fn merge_heads(
    device: &Gpu,
    from: &Tensor,
    spans: Option<&Tensor>,
    to: &Tensor,
) -> Result<()> {
    let (_, heads, rows, head_dim) = from.dims4()?;
    let values = from.elem_count();
    let kernel = Kernel {
        module: ("attention", ptx::ATTENTION),
        name: &format!("merge_heads_{}", suffix(from.dtype())?),
        grid: blocks(values.div_ceil(pack(from.dtype()))),
        threads: THREADS,
        shared: 0,
    };
    let arguments = [
        pointer(from)?.into(),
        optional_pointer(spans)?.into(),
        pointer(to)?.into(),
        count(values),
        size(heads)?,
        size(rows)?,
        size(head_dim)?,
    ];
    // SAFETY: as attention.cu says; `to` has a row for each that is written.
    unsafe { kernel.launch(device, &arguments) }
}
