//! Attention over prefixes, images and the KV cache.

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Device, Layout, Result, Storage, Tensor, bail};

use super::cpu::{self, Heads, Instructions};
use super::{cuda, on_gpu, own_kernels, portable};

/// How raw scores become the softmax's input.
#[derive(Debug, Clone, Copy)]
pub struct Scoring {
    /// Multiplies `q · k`.
    pub scale: f64,
    /// Squashes scaled scores to `±softcap`, before any mask.
    pub softcap: Option<f64>,
}

/// The keys that rows reach over count in multiples of this, so that a step is queued as the one before
/// mostly; a kernel finds out how many a row has.
pub const REACH: usize = 256;

/// Slot and position of each packed row, for kernels that find the row's keys in the cache by
/// themselves.
#[derive(Debug, Clone)]
pub struct RowPlaces {
    /// u32 `[rows]`.
    pub(super) slots: Tensor,
    /// u32 `[rows]`.
    pub(super) positions: Tensor,
    /// Keys that the row with the most keys sees, or up to [`REACH`] more.
    pub(super) longest: usize,
    /// u32 `[prefixes, 2]`: the first row of each prefix, and how many rows it has.
    pub(super) spans: Option<Tensor>,
    /// u32 `[rows · kv_heads · 4]`: of each row that decodes, how many blocks of a group of heads are done.
    ///
    /// Zeros before a launch, and after every one that ends. When a launch breaks off, other numbers may
    /// stay, which does no harm: after an error the model is built anew, or recorded steps are dropped.
    pub(super) done: Tensor,
}

impl RowPlaces {
    /// For rows that decode, with these slots and positions, of so many key heads; `None` where no kernel
    /// takes them, but [`attend_all`] and [`attend_cached`] do their parts.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new(rows: &[(u32, u32)], heads: usize, device: &Device) -> Result<Option<Self>> {
        match on_gpu(device) {
            true => cuda::places(rows, &[], heads, device).map(Some),
            false => Ok(None),
        }
    }

    /// The same for all rows of prefixes, of which each has a slot and so many rows.
    ///
    /// # Errors
    /// When the device fails.
    pub fn of_prefixes(
        prefixes: &[(usize, usize)],
        heads: usize,
        device: &Device,
    ) -> Result<Option<Self>> {
        if !on_gpu(device) {
            return Ok(None);
        }
        let (mut rows, mut spans) = (Vec::new(), Vec::new());
        for &(slot, len) in prefixes {
            spans.push((rows.len() as u32, len as u32));
            rows.extend((0..len as u32).map(|position| (slot as u32, position)));
        }
        cuda::places(&rows, &spans, heads, device).map(Some)
    }

    /// u32 `[rows]`.
    pub fn positions(&self) -> &Tensor {
        &self.positions
    }

    /// Keys that the row with the most keys sees, or up to [`REACH`] more.
    pub fn reach(&self) -> usize {
        self.longest
    }

    /// Copies the places of as many other rows, which reach as far, to where these are.
    ///
    /// # Errors
    /// When the device fails.
    pub fn overwrite(&self, other: &Self) -> Result<()> {
        self.slots.slice_set(&other.slots, 0, 0)?;
        self.positions.slice_set(&other.positions, 0, 0)
    }

    /// These rows, and after them those of `other`, which decode.
    ///
    /// # Errors
    /// When the device fails.
    pub fn followed_by(&self, other: &Self) -> Result<Self> {
        Ok(Self {
            slots: Tensor::cat(&[&self.slots, &other.slots], 0)?,
            positions: Tensor::cat(&[&self.positions, &other.positions], 0)?,
            longest: self.longest.max(other.longest),
            spans: self.spans.clone(),
            done: Tensor::cat(&[&self.done, &other.done], 0)?,
        })
    }
}

/// Packed rows over the cache: prefixes first, and then rows that decode.
#[derive(Debug)]
pub struct CachedRows<'a> {
    /// Of all rows.
    pub places: &'a RowPlaces,
    pub prefixes: Vec<CachedPrefix<'a>>,
    /// How many rows decode.
    pub decode: usize,
    /// Of each prefix only the last row's output is wanted.
    pub last_only: bool,
    /// A row that decodes sees the last so many keys only.
    pub window: Option<usize>,
}

/// Consecutive packed rows that attend to each other.
#[derive(Debug)]
pub struct CachedPrefix<'a> {
    pub len: usize,
    /// f32 `[len, len]` (queries, keys) with 0 where a key is seen and -∞ where not.
    pub mask: Option<&'a Tensor>,
}

/// All of attention between two products: rotates queries and keys by the angles `[rows, head_dim /
/// 2]`, keeps keys and values in the cache `[slots, kv_heads, context, head_dim]`, and attends.
///
/// `qkv` `[rows, (heads + 2 · kv_heads) · head_dim]`; gives `[queries, heads · head_dim]`.
///
/// # Errors
/// When the device fails.
pub fn attend_rows(
    qkv: &Tensor,
    angles: (&Tensor, &Tensor),
    cache: (&Tensor, &Tensor),
    rows: &CachedRows<'_>,
    scoring: Scoring,
) -> Result<Tensor> {
    cuda::attend_rows(qkv, angles, cache, rows, scoring)
}

/// Attention between the `patches` of each image, and no other image's: `qkv` `[images · patches, 3 ·
/// heads · head_dim]`; gives `[images · patches, heads · head_dim]`.
///
/// # Errors
/// When the device fails.
pub fn attend_images(
    qkv: &Tensor,
    patches: usize,
    heads: usize,
    scoring: Scoring,
) -> Result<Tensor> {
    if on_gpu(qkv.device()) {
        return cuda::attend_images(qkv, patches, heads, scoring);
    }
    let (rows, width) = qkv.dims2()?;
    let qkv = qkv.reshape((rows, 3 * heads, width / 3 / heads))?;
    let images = (0..rows / patches)
        .map(|image| {
            let part = |i: usize| {
                qkv.narrow(0, image * patches, patches)?
                    .narrow(1, i * heads, heads)
            };
            attend_all(&part(0)?, &part(1)?, &part(2)?, None, scoring)
        })
        .collect::<Result<Vec<_>>>()?;
    Tensor::cat(&images, 0)
}

/// Every query sees every key, unless a mask hides it: a prefix, or the patches of an image.
///
/// `q` `[n, heads, head_dim]`, `k` and `v` `[n, kv_heads, head_dim]`, which may be parts of wider
/// rows, `mask` f32 `[n, n]` (queries, keys) with 0 where a key is seen and -∞ where not; gives
/// `[n, heads · head_dim]`. Query heads `g·i .. g·(i+1)` share key head `i`, where
/// `g = heads / kv_heads`.
///
/// # Errors
/// When the device fails.
pub fn attend_all(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    scoring: Scoring,
) -> Result<Tensor> {
    if !own_kernels(q.device()) {
        return portable::attend_all(q, k, v, mask, scoring);
    }
    let (n, heads, head_dim) = q.dims3()?;
    let mask = mask.map(|mask| mask.storage_and_layout());
    let (q, k, v) = (
        q.storage_and_layout(),
        k.storage_and_layout(),
        v.storage_and_layout(),
    );
    let out = cpu::attend_all(
        Instructions::chosen(),
        head_rows(&q.0, q.1)?,
        head_rows(&k.0, k.1)?,
        head_rows(&v.0, v.1)?,
        optional_values(&mask)?,
        scoring,
    );
    Tensor::from_vec(out, (n, heads * head_dim), &Device::Cpu)
}

/// The cached keys that one query of each slot sees.
#[derive(Debug, Clone)]
pub struct SeenKeys {
    ranges: Vec<Range<usize>>,
    /// f32 `[slots, 1, 1, keys]`: 0 where a key is seen and -∞ where not; only where our own
    /// kernels don't run.
    mask: Option<Tensor>,
}

impl SeenKeys {
    /// A range of keys for each slot; none reaches beyond `keys`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new(ranges: Vec<Range<usize>>, keys: usize, device: &Device) -> Result<Self> {
        let mask = match own_kernels(device) {
            true => None,
            false => Some(mask(&ranges, keys, device)?),
        };
        Ok(Self { ranges, mask })
    }
}

fn mask(ranges: &[Range<usize>], keys: usize, device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = ranges
        .iter()
        .flat_map(|seen| {
            (0..keys).map(|key| match seen.contains(&key) {
                true => 0.0,
                false => f32::NEG_INFINITY,
            })
        })
        .collect();
    Tensor::from_vec(values, (ranges.len(), 1, 1, keys), device)
}

/// One query a slot over that slot's cached keys.
///
/// `q` `[slots, kv_heads, g, head_dim]`, contiguous; `k` and `v` `[slots, kv_heads, keys, head_dim]`,
/// which may be the first keys of more; gives `[slots, kv_heads · g · head_dim]`.
///
/// # Errors
/// When the device fails.
pub fn attend_cached(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    seen: &SeenKeys,
    scoring: Scoring,
) -> Result<Tensor> {
    let (slots, kv_heads, group, head_dim) = q.dims4()?;
    let shape = (slots, kv_heads * group * head_dim);
    if let Some(mask) = &seen.mask {
        return portable::attend_cached(q, k, v, mask, scoring)?.reshape(shape);
    }
    let q = q.reshape((slots, kv_heads * group, head_dim))?;
    let (q, k, v) = (
        q.storage_and_layout(),
        k.storage_and_layout(),
        v.storage_and_layout(),
    );
    let out = cpu::attend_cached(
        Instructions::chosen(),
        head_rows(&q.0, q.1)?,
        slot_rows(&k.0, k.1)?,
        slot_rows(&v.0, v.1)?,
        &seen.ranges,
        scoring,
    );
    Tensor::from_vec(out, shape, &Device::Cpu)
}

/// Rotates queries or keys `[rows, heads, head_dim]`, which may be parts of wider rows, by the angles
/// `[rows, head_dim / 2]` of each row.
///
/// # Errors
/// When the device fails.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    if !own_kernels(x.device()) {
        return portable::rotate(x, cos, sin);
    }
    let shape = x.shape().clone();
    let (x, cos, sin) = (
        x.storage_and_layout(),
        cos.storage_and_layout(),
        sin.storage_and_layout(),
    );
    let out = cpu::rotate(
        Instructions::chosen(),
        head_rows(&x.0, x.1)?,
        values(&cos.0, cos.1)?,
        values(&sin.0, sin.1)?,
    );
    Tensor::from_vec(out, shape, &Device::Cpu)
}

/// The values of a contiguous f32 tensor in the processor's memory.
pub(super) fn values<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a kernel got values that are not contiguous")
    };
    Ok(&floats(storage)?[start..end])
}

/// [`values`] of a tensor that may be absent.
pub(super) fn optional_values<'a>(
    tensor: &'a Option<(impl Deref<Target = Storage>, &Layout)>,
) -> Result<Option<&'a [f32]>> {
    tensor
        .as_ref()
        .map(|(storage, layout)| values(storage, layout))
        .transpose()
}

fn floats(storage: &Storage) -> Result<&[f32]> {
    match storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok(values),
        _ => bail!("a kernel of the processor takes f32 in its memory"),
    }
}

/// `[rows, heads, width]`.
fn head_rows<'a>(storage: &'a Storage, layout: &Layout) -> Result<Heads<'a>> {
    let (rows, heads, width) = layout.shape().dims3()?;
    let &[row_stride, head_stride, 1] = layout.stride() else {
        bail!("a head's values must lie side by side")
    };
    Ok(Heads {
        values: &floats(storage)?[layout.start_offset()..],
        rows,
        heads,
        width,
        row_stride,
        head_stride,
    })
}

/// `[slots, kv_heads, keys, width]` as `[slots · kv_heads, keys, width]`.
fn slot_rows<'a>(storage: &'a Storage, layout: &Layout) -> Result<Heads<'a>> {
    let (slots, kv_heads, keys, width) = layout.shape().dims4()?;
    let &[slot_stride, row_stride, key_stride, 1] = layout.stride() else {
        bail!("a key's values must lie side by side")
    };
    if slots > 1 && slot_stride != kv_heads * row_stride {
        bail!("a slot's key heads must lie side by side")
    }
    Ok(Heads {
        values: &floats(storage)?[layout.start_offset()..],
        rows: slots * kv_heads,
        heads: keys,
        width,
        row_stride,
        head_stride: key_stride,
    })
}
