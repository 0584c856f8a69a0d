//! Keys and values of every slot, preallocated.

use candle_core::{DType, Device, Result, Tensor};

use super::AdapterId;
use crate::kernels::{RowPlaces, Scoring, SeenKeys, attend_cached};

/// One tensor pair a layer, `[slots, kv_heads, context + 1, head_dim]`, written in place.
///
/// Position `context` of a slot is never read: rows that fill the gaps between decoding slots are
/// written there.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    context: usize,
}

/// The dimensions of a [`KvCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheShape {
    pub layers: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Sequences that it holds.
    pub slots: usize,
    /// Tokens of the longest sequence.
    pub context: usize,
}

impl CacheShape {
    /// Bytes that a cache of this shape takes.
    pub fn bytes(&self, dtype: DType) -> usize {
        let values = self.slots * self.kv_heads * (self.context + 1) * self.head_dim;
        2 * self.layers * values * dtype.size_in_bytes()
    }
}

/// Keys and values of one layer.
#[derive(Debug)]
pub struct LayerCache {
    /// Keys, rotated, `[slots, kv_heads, context + 1, head_dim]`.
    pub k: Tensor,
    /// Values, in the same shape.
    pub v: Tensor,
}

impl KvCache {
    /// Zeroed, in `dtype` on `device`.
    ///
    /// # Errors
    /// When it does not fit into memory.
    pub fn new(shape: CacheShape, dtype: DType, device: &Device) -> Result<Self> {
        let CacheShape {
            layers,
            kv_heads,
            head_dim,
            slots,
            context,
        } = shape;
        let shape = (slots, kv_heads, context + 1, head_dim);
        let layers = (0..layers)
            .map(|_| {
                Ok(LayerCache {
                    k: Tensor::zeros(shape, dtype, device)?,
                    v: Tensor::zeros(shape, dtype, device)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { layers, context })
    }

    /// The longest sequence that a slot holds.
    pub fn context(&self) -> usize {
        self.context
    }

    /// One layer's keys and values.
    pub fn layer(&self, index: usize) -> &LayerCache {
        &self.layers[index]
    }

    /// Sets a slot to zero.
    pub fn clear(&self, slot: usize) -> Result<()> {
        for tensor in self.layers.iter().flat_map(|layer| [&layer.k, &layer.v]) {
            let slot = tensor.narrow(0, slot, 1)?;
            slot.slice_set(&slot.zeros_like()?, 0, 0)?;
        }
        Ok(())
    }
}

impl LayerCache {
    /// Keeps a prefix's keys and values, `[n, kv_heads, head_dim]`, at the start of `slot`.
    pub(super) fn write_prefix(&self, slot: usize, k: &Tensor, v: &Tensor) -> Result<()> {
        for (cache, new) in [(&self.k, k), (&self.v, v)] {
            let new = new.transpose(0, 1)?.contiguous()?.unsqueeze(0)?;
            cache.narrow(0, slot, 1)?.slice_set(&new, 2, 0)?;
        }
        Ok(())
    }
}

/// One sequence that decodes: its newest token is put in, the logits of the next come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeRow {
    /// The KV cache slot that the sequence owns.
    pub slot: usize,
    /// The 0-based index of `token` in its sequence, image tokens counted.
    pub position: usize,
    /// The token that was generated last.
    pub token: u32,
    pub adapter: Option<AdapterId>,
}

/// Where a step's decode rows stand in the cache; the same for every layer.
#[derive(Debug, Clone)]
pub struct DecodeLayout {
    rows: usize,
    at: RowsInCache,
}

/// How rows are found in the cache.
#[derive(Debug, Clone)]
pub(super) enum RowsInCache {
    /// A kernel finds each row by its place.
    ByPlace(RowPlaces),
    /// Rows are brought in the order of slots, and slots back in the order of rows.
    BySlot(SlotOrder),
}

/// Decode rows in the order of slots.
#[derive(Debug, Clone)]
pub(super) struct SlotOrder {
    /// Slots `0..slots` are attended over; it is one more than the highest that decodes.
    slots: usize,
    /// Cached positions `0..length` are read.
    length: usize,
    /// u32 `[slots]`: the row of each slot; a gap is filled with row 0.
    row_of_slot: Tensor,
    /// u32 `[rows]`: the slot of each row.
    slot_of_row: Tensor,
    /// u32 `[slots, kv_heads, 1, head_dim]`: where each slot's new key goes.
    write_at: Tensor,
    /// What each slot sees in layers without a window.
    seen: SeenKeys,
    /// The same for layers with a window; absent when no row is longer than the window.
    windowed: Option<SeenKeys>,
}

impl DecodeLayout {
    /// For `rows` in `cache`, and layers with that window or none. `cache` has a layer at least.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new(
        rows: &[DecodeRow],
        cache: &KvCache,
        window: Option<usize>,
        device: &Device,
    ) -> Result<Self> {
        let places: Vec<(u32, u32)> = rows
            .iter()
            .map(|row| (row.slot as u32, row.position as u32))
            .collect();
        let kv_heads = cache.layers[0].k.dim(1)?;
        let at = match RowPlaces::new(&places, kv_heads, device)? {
            Some(places) => RowsInCache::ByPlace(places),
            None => RowsInCache::BySlot(SlotOrder::new(rows, cache, window, device)?),
        };
        Ok(Self {
            rows: rows.len(),
            at,
        })
    }

    /// Sequences that decode.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// u32 `[rows]`, the rows' positions, where a kernel finds them by these.
    pub fn positions(&self) -> Option<&Tensor> {
        self.places().map(RowPlaces::positions)
    }

    /// The rows' places, where a kernel finds them by these.
    pub(super) fn places(&self) -> Option<&RowPlaces> {
        match &self.at {
            RowsInCache::ByPlace(places) => Some(places),
            RowsInCache::BySlot(_) => None,
        }
    }

    /// The order of slots, where rows are brought in it.
    pub(super) fn slot_order(&self) -> Option<&SlotOrder> {
        match &self.at {
            RowsInCache::ByPlace(_) => None,
            RowsInCache::BySlot(order) => Some(order),
        }
    }
}

impl SlotOrder {
    fn new(
        rows: &[DecodeRow],
        cache: &KvCache,
        window: Option<usize>,
        device: &Device,
    ) -> Result<Self> {
        let slots = rows.iter().map(|row| row.slot + 1).max().unwrap_or(0);
        let length = rows.iter().map(|row| row.position + 1).max().unwrap_or(0);
        let mut row_of_slot = vec![0u32; slots];
        let mut write_at = vec![cache.context() as u32; slots];
        let mut seen = vec![1usize; slots];
        for (index, row) in rows.iter().enumerate() {
            row_of_slot[row.slot] = index as u32;
            write_at[row.slot] = row.position as u32;
            seen[row.slot] = row.position + 1;
        }
        let slot_of_row: Vec<u32> = rows.iter().map(|row| row.slot as u32).collect();
        let last = |window: usize| {
            let ranges = seen.iter().map(|&seen| seen.saturating_sub(window)..seen);
            SeenKeys::new(ranges.collect(), length, device)
        };
        let windowed = match window {
            Some(window) if window < length => Some(last(window)?),
            _ => None,
        };
        let (_, kv_heads, _, head_dim) = cache.layers[0].k.dims4()?;
        Ok(Self {
            slots,
            length,
            row_of_slot: Tensor::new(row_of_slot, device)?,
            slot_of_row: Tensor::new(slot_of_row, device)?,
            write_at: Tensor::new(write_at, device)?
                .reshape((slots, 1, 1, 1))?
                .broadcast_as((slots, kv_heads, 1, head_dim))?
                .contiguous()?,
            seen: last(length)?,
            windowed,
        })
    }

    /// Keeps each row's new key and value and attends over its slot.
    ///
    /// `q` `[rows, heads, head_dim]`, `k` and `v` `[rows, kv_heads, head_dim]`; gives
    /// `[rows, heads · head_dim]`.
    pub(super) fn attend(
        &self,
        cache: &LayerCache,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        window: Option<usize>,
        scoring: Scoring,
    ) -> Result<Tensor> {
        let (_, heads, head_dim) = q.dims3()?;
        let kv_heads = k.dim(1)?;
        let by_slot = |x: &Tensor, group: usize| {
            x.contiguous()?
                .index_select(&self.row_of_slot, 0)?
                .reshape((self.slots, kv_heads, group, head_dim))
        };
        let cached = [(&cache.k, k), (&cache.v, v)].map(|(tensor, new)| {
            let slots = tensor.narrow(0, 0, self.slots)?;
            slots.scatter_set(&self.write_at, &by_slot(new, 1)?, 2)?;
            slots.narrow(2, 0, self.length)
        });
        let [k, v] = cached;
        let seen = match (window, &self.windowed) {
            (Some(_), Some(seen)) => seen,
            _ => &self.seen,
        };
        attend_cached(&by_slot(q, heads / kv_heads)?, &k?, &v?, seen, scoring)?
            .index_select(&self.slot_of_row, 0)
    }
}
