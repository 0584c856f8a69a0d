//! What the packed rows of a step are.

use candle_core::{Device, Result, Tensor, bail};

use super::adapters::{AdapterId, AdapterRows};
use super::kv_cache::DecodeLayout;
use super::rope::Rope;
use crate::kernels::RowPlaces;

/// Describes the packed rows of a step. It is made once a step and reaches every layer, so that a
/// layer can tell rows apart: whole prefixes come first, then one row for each sequence that
/// decodes, and nothing is padded.
#[derive(Debug, Clone)]
pub struct Batch {
    rows: usize,
    pub(super) prefixes: Vec<PrefixRows>,
    pub(super) decode: Option<DecodeLayout>,
    /// Slot and position of every row, where a kernel finds it in the cache by these.
    pub(super) places: Option<RowPlaces>,
    /// The angles of every row; `None` where no row has a position in a text.
    pub(super) rope: Option<Rope>,
    /// Rows of each image, in the vision tower.
    pub(super) rows_per_image: Option<usize>,
    /// The adapter of every row; empty where there is none at all.
    row_adapters: Vec<Option<AdapterId>>,
    adapters: Vec<AdapterRows>,
}

/// Consecutive packed rows that are one whole prefix, and what was generated after it.
#[derive(Debug, Clone)]
pub struct PrefixRows {
    /// The slot to which keys and values are written.
    pub slot: usize,
    /// The first row.
    pub start: usize,
    /// Rows of the prefix and of what was generated.
    pub len: usize,
    /// Only when generated tokens follow the prefix.
    pub masks: Option<ContinuedMasks>,
}

/// Hides keys of a prefix that generated tokens follow; f32 `[len, len]`, queries by keys, with 0
/// where a key is seen and -∞ where not.
#[derive(Debug, Clone)]
pub struct ContinuedMasks {
    full: Tensor,
    /// For layers with a window.
    windowed: Tensor,
}

impl Batch {
    /// Whole prefixes in a cache of so many key heads, and the angles of all their rows.
    ///
    /// # Errors
    /// When the device fails.
    pub fn of_prefixes(
        prefixes: Vec<PrefixRows>,
        rope: Rope,
        kv_heads: usize,
        device: &Device,
    ) -> Result<Self> {
        let slots: Vec<_> = prefixes.iter().map(|rows| (rows.slot, rows.len)).collect();
        Ok(Self {
            rows: prefixes.iter().map(|prefix| prefix.len).sum(),
            prefixes,
            decode: None,
            places: RowPlaces::of_prefixes(&slots, kv_heads, device)?,
            rope: Some(rope),
            rows_per_image: None,
            row_adapters: Vec::new(),
            adapters: Vec::new(),
        })
    }

    /// Decode rows and their angles.
    pub fn of_decode(decode: DecodeLayout, rope: Rope) -> Self {
        Self {
            rows: decode.rows(),
            prefixes: Vec::new(),
            places: decode.places().cloned(),
            decode: Some(decode),
            rope: Some(rope),
            rows_per_image: None,
            row_adapters: Vec::new(),
            adapters: Vec::new(),
        }
    }

    /// Keys over which its rows reach, where a kernel finds them by their places.
    pub fn reach(&self) -> Option<usize> {
        self.places.as_ref().map(RowPlaces::reach)
    }

    /// Copies places and angles of as many other decode rows, which reach as far, to where those of `self`
    /// are.
    ///
    /// # Errors
    /// When the device fails.
    pub fn overwrite(&self, other: &Self) -> Result<()> {
        match (&self.places, &other.places, &self.rope, &other.rope) {
            (Some(places), Some(other_places), Some(rope), Some(other_rope)) => {
                places.overwrite(other_places)?;
                rope.overwrite(other_rope)
            }
            _ => bail!("these rows have no places and angles"),
        }
    }

    /// Patches of images, `rows_per_image` each.
    pub fn of_images(images: usize, rows_per_image: usize) -> Self {
        Self {
            rows_per_image: Some(rows_per_image),
            ..Self::of_rows(images * rows_per_image)
        }
    }

    /// Rows that don't attend to each other, such as those of which logits are wanted.
    pub fn of_rows(rows: usize) -> Self {
        Self {
            rows,
            prefixes: Vec::new(),
            decode: None,
            places: None,
            rope: None,
            rows_per_image: None,
            row_adapters: Vec::new(),
            adapters: Vec::new(),
        }
    }

    /// The same with the adapter of each of its parts, which are so many rows.
    ///
    /// # Errors
    /// When the parts' rows aren't all rows, or the device fails.
    pub fn with_adapters(
        self,
        parts: impl IntoIterator<Item = (Option<AdapterId>, usize)>,
        device: &Device,
    ) -> Result<Self> {
        let of_part = |(adapter, rows)| std::iter::repeat_n(adapter, rows);
        let of_rows: Vec<_> = parts.into_iter().flat_map(of_part).collect();
        self.with_row_adapters(of_rows, device)
    }

    fn with_row_adapters(self, of_rows: Vec<Option<AdapterId>>, device: &Device) -> Result<Self> {
        if of_rows.len() != self.rows {
            bail!("adapters of {} rows, not {}", of_rows.len(), self.rows);
        }
        if of_rows.iter().all(Option::is_none) {
            return Ok(self);
        }
        Ok(Self {
            adapters: AdapterRows::group(&of_rows, device)?,
            row_adapters: of_rows,
            ..self
        })
    }

    /// The adapter of a row.
    fn adapter_of(&self, row: usize) -> Option<AdapterId> {
        self.row_adapters.get(row).copied().flatten()
    }

    /// Its rows that are those of adapters.
    pub fn adapters(&self) -> &[AdapterRows] {
        &self.adapters
    }

    /// The prefixes of `self`, and after them the decode rows of `decoding`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn with_decode(&self, decoding: &Self, device: &Device) -> Result<Self> {
        let rope = match (&self.rope, &decoding.rope) {
            (Some(prefixes), Some(decode)) => Some(prefixes.followed_by(decode)?),
            _ => None,
        };
        let places = match (&self.places, &decoding.places) {
            (Some(prefixes), Some(decode)) => Some(prefixes.followed_by(decode)?),
            _ => None,
        };
        let both = Self {
            rows: self.rows + decoding.rows,
            prefixes: self.prefixes.clone(),
            decode: decoding.decode.clone(),
            places,
            rope,
            rows_per_image: None,
            row_adapters: Vec::new(),
            adapters: Vec::new(),
        };
        let of_prefixes = (0..self.rows).map(|row| self.adapter_of(row));
        let of_decode = (0..decoding.rows).map(|row| decoding.adapter_of(row));
        both.with_row_adapters(of_prefixes.chain(of_decode).collect(), device)
    }

    /// The rows of [`Queries::Last`](super::Queries::Last) as a batch of their own.
    ///
    /// # Errors
    /// When the device fails.
    pub fn last(&self, device: &Device) -> Result<Self> {
        let rows = self.last_row_indices();
        let of_rows = rows.iter().map(|&row| self.adapter_of(row as usize));
        Self::of_rows(rows.len()).with_row_adapters(of_rows.collect(), device)
    }

    /// All rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Rows of prefixes and of images, which come first. There are always many of them, where there
    /// may be few of any other kind.
    pub(super) fn many_rows(&self) -> usize {
        match self.rows_per_image {
            Some(_) => self.rows,
            None => self.prefixes.iter().map(|prefix| prefix.len).sum(),
        }
    }

    /// The rows of [`Queries::Last`](super::Queries::Last), u32 `[prefixes + decode rows]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn last_rows(&self, device: &Device) -> Result<Tensor> {
        Tensor::new(self.last_row_indices(), device)
    }

    fn last_row_indices(&self) -> Vec<u32> {
        let decoding = self.decode.as_ref().map_or(0, DecodeLayout::rows);
        let prefixes = self.prefixes.iter();
        prefixes
            .map(|prefix| prefix.start + prefix.len - 1)
            .chain(self.rows - decoding..self.rows)
            .map(|row| row as u32)
            .collect()
    }

    /// # Errors
    /// When `x` has other rows than these.
    pub(super) fn check(&self, x: &Tensor) -> Result<()> {
        if x.dim(0)? != self.rows {
            candle_core::bail!(
                "a layer got {:?} for a batch of {} rows",
                x.dims(),
                self.rows
            );
        }
        Ok(())
    }
}

impl ContinuedMasks {
    /// For a prefix of `prefix` tokens among `len` rows, and layers with that window.
    ///
    /// The prefix sees itself whole, and nothing of what follows. A generated token sees what comes
    /// before it and itself; with a window only the last so many of these, the prefix's counted, as
    /// when it was decoded.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn new(prefix: usize, len: usize, window: Option<usize>, device: &Device) -> Result<Self> {
        Ok(Self {
            full: mask(prefix, len, None, device)?,
            windowed: mask(prefix, len, window, device)?,
        })
    }

    /// The mask of a layer with such a window.
    pub(super) fn of(&self, window: Option<usize>) -> &Tensor {
        match window {
            Some(_) => &self.windowed,
            None => &self.full,
        }
    }
}

fn mask(prefix: usize, len: usize, window: Option<usize>, device: &Device) -> Result<Tensor> {
    let seen = |row: usize| match row < prefix {
        true => 0..prefix,
        false => window.map_or(0, |window| (row + 1).saturating_sub(window))..row + 1,
    };
    let values: Vec<f32> = (0..len)
        .flat_map(|row| {
            let seen = seen(row);
            (0..len).map(move |key| match seen.contains(&key) {
                true => 0.0,
                false => f32::NEG_INFINITY,
            })
        })
        .collect();
    Tensor::from_vec(values, (len, len), device)
}
