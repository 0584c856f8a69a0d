//! Adapters beside the weights of layers, and which rows of a step are whose.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor};

use crate::checkpoint::Adapter;
use crate::kernels::{LowRank, Matmul, WeightFormat, rows_of};

/// A resident adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterId(pub u32);

/// An adapter that is being added to the layers of a model, and which of its modules have found theirs.
#[derive(Debug)]
pub struct Addition<'a> {
    pub id: AdapterId,
    pub adapter: &'a Adapter,
    found: BTreeMap<&'a str, bool>,
    /// Bytes that it takes by now.
    pub bytes: usize,
}

impl<'a> Addition<'a> {
    pub fn new(id: AdapterId, adapter: &'a Adapter) -> Self {
        let names = adapter.modules.keys();
        Self {
            id,
            adapter,
            found: names.map(|name| (name.as_str(), false)).collect(),
            bytes: 0,
        }
    }

    /// Notes that a layer has the module of that name.
    pub fn found(&mut self, name: &str) {
        if let Some(found) = self.found.get_mut(name) {
            *found = true;
        }
    }

    /// The modules that no layer has.
    pub fn left_over(&self) -> impl Iterator<Item = &str> {
        let left = self.found.iter().filter(|(_, found)| !**found);
        left.map(|(name, _)| *name)
    }
}

/// What adapters change in one layer.
#[derive(Debug, Default)]
pub(super) struct LayerAdapters(HashMap<AdapterId, LayerAdapter>);

#[derive(Debug)]
pub(super) struct LayerAdapter {
    pub low_rank: Option<LowRank>,
    /// In the place of the layer's weight and bias.
    pub own: Option<(Matmul, Option<Tensor>)>,
}

/// A layer's module, and how many of its outputs are the module's.
pub(super) type Target = (String, usize);

impl LayerAdapters {
    pub fn get(&self, id: AdapterId) -> Option<&LayerAdapter> {
        self.0.get(&id)
    }

    pub fn insert(&mut self, id: AdapterId, adapter: LayerAdapter) {
        self.0.insert(id, adapter);
    }

    pub fn remove(&mut self, id: AdapterId) {
        self.0.remove(&id);
    }
}

/// What `addition` adds to the products of a layer whose modules lie side by side, if it does.
pub(super) fn low_rank(
    addition: &mut Addition<'_>,
    targets: &[Target],
    weight: &Matmul,
    format: WeightFormat,
    device: &Device,
) -> Result<Option<LowRank>> {
    let out: usize = targets.iter().map(|(_, out)| out).sum();
    let (mut downs, mut ups, mut biases) = (Vec::new(), Vec::new(), Vec::new());
    let (mut start, mut has_bias) = (0, false);
    for (name, width) in targets {
        let module = addition.adapter.modules.get(name);
        if let Some(low_rank) = module.and_then(|module| module.low_rank.as_ref()) {
            let up = (low_rank.up()? * low_rank.scale)?;
            downs.push(low_rank.down()?);
            // The others' outputs have nothing of it.
            ups.push(up.pad_with_zeros(0, start, out - start - width)?);
            let bias = match low_rank.up_bias()? {
                Some(bias) => (bias * low_rank.scale)?,
                None => Tensor::zeros(*width, up.dtype(), &Device::Cpu)?,
            };
            has_bias |= low_rank.has_bias();
            biases.push(bias.pad_with_zeros(0, start, out - start - width)?);
            addition.found(name);
        }
        start += width;
    }
    if downs.is_empty() {
        return Ok(None);
    }
    let mut bias = Tensor::zeros(out, DType::F32, &Device::Cpu)?;
    for of_module in &biases {
        bias = (bias + of_module)?;
    }
    let made = LowRank::new(
        Tensor::cat(&downs, 0)?,
        &Tensor::cat(&ups, 1)?,
        has_bias.then_some(&bias),
        weight,
        format,
        device,
    )?;
    addition.bytes += made.bytes();
    Ok(Some(made))
}

/// The rows of a step that are one adapter's.
#[derive(Debug, Clone)]
pub struct AdapterRows {
    pub adapter: AdapterId,
    /// Ascending.
    pub rows: Vec<u32>,
    /// The same on the device, u32.
    pub(super) ids: Tensor,
}

impl AdapterRows {
    /// Groups rows, each of which is of an adapter or of none, by these.
    pub(super) fn group(of: &[Option<AdapterId>], device: &Device) -> Result<Vec<Self>> {
        let mut groups: BTreeMap<AdapterId, Vec<u32>> = BTreeMap::new();
        for (row, adapter) in of.iter().enumerate() {
            if let Some(adapter) = adapter {
                groups.entry(*adapter).or_default().push(row as u32);
            }
        }
        let made = groups.into_iter().map(|(adapter, rows)| {
            let ids = Tensor::new(rows.as_slice(), device)?;
            Ok(Self { adapter, rows, ids })
        });
        made.collect()
    }

    /// These rows of `x`, whatever shape they have.
    ///
    /// # Errors
    /// When the device fails.
    pub fn of(&self, x: &Tensor) -> Result<Tensor> {
        rows_of(x, &self.rows, &self.ids)
    }

    /// How many of them come before row `end` of all.
    pub(super) fn before(&self, end: usize) -> usize {
        self.rows.partition_point(|&row| (row as usize) < end)
    }

    /// `y` with `own` in the place of these rows.
    ///
    /// # Errors
    /// When the device fails.
    pub fn replace(&self, y: &Tensor, own: &Tensor) -> Result<Tensor> {
        let all = y.dim(0)?;
        let mut from: Vec<u32> = (0..all as u32).collect();
        for (index, &row) in self.rows.iter().enumerate() {
            from[row as usize] = (all + index) as u32;
        }
        let from = Tensor::new(from, y.device())?;
        Tensor::cat(&[y, own], 0)?.index_select(&from, 0)
    }

    /// `y` with `added` added to these rows.
    ///
    /// # Errors
    /// When the device fails.
    pub fn add(&self, y: &Tensor, added: &Tensor) -> Result<Tensor> {
        y.index_add(&self.ids, added, 0)
    }
}
