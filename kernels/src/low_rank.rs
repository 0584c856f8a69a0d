//! Products of low rank that adapters add to the product with a weight, for some rows.

use candle_core::{Device, Result, Tensor, bail};

use super::cpu::{PackedFormat, RowUpdate, UpPanels};
use super::{Epilogue, Matmul, Outputs, WeightFormat, cuda, on_gpu};

/// `up · down` of one adapter (Hu et al., arXiv 2106.09685), ready to be added to the products with one
/// weight `[out, in]`.
#[derive(Debug)]
pub struct LowRank {
    /// `[ranks, in]`.
    down: Matmul,
    up: Up,
    bytes: usize,
}

/// An adapter's second half, in the order in which what it is added to comes.
#[derive(Debug)]
enum Up {
    Panels(UpPanels),
    Dense {
        /// `[ranks, out]`.
        matrix: Tensor,
        /// `[out]`.
        bias: Option<Tensor>,
    },
}

/// What an adapter adds to some rows of a product.
#[derive(Debug)]
pub struct Update<'a> {
    /// Its rows there, ascending; no row has two updates.
    pub rows: &'a [u32],
    /// The same on the device, u32.
    pub ids: &'a Tensor,
    pub low_rank: &'a LowRank,
    /// What is multiplied, all rows of it, `[rows, in]`.
    pub x: &'a Tensor,
    /// How many of its rows are of the kind that [`Matmul::forward`] tells apart.
    pub many: usize,
}

impl LowRank {
    /// Of f32 tensors `down` `[ranks, in]`, `up` `[out, ranks]` and `bias` `[out]` in the CPU's memory, for
    /// the products with `weight`, which is in `format`.
    ///
    /// # Errors
    /// When shapes don't fit, memory runs out or the device fails.
    pub fn new(
        down: Tensor,
        up: &Tensor,
        bias: Option<&Tensor>,
        weight: &Matmul,
        format: WeightFormat,
        device: &Device,
    ) -> Result<Self> {
        let (out, ranks) = up.dims2()?;
        if down.dim(0)? != ranks {
            bail!("halves of {:?} and {:?}", down.dims(), up.dims());
        }
        let format = match on_gpu(device) {
            // So that the kernels for several adapters take it.
            true => format.unquantized(),
            // Four bits are too few for so few numbers.
            false => format.for_token_table(),
        };
        let (up, up_bytes) = match weight.packed_shape() {
            Some(shape) => {
                let in_halves = shape.format != PackedFormat::F32;
                let bias = bias.map(Tensor::to_vec1).transpose()?;
                let rows = up.flatten_all()?.to_vec1()?;
                let panels = UpPanels::new(&rows, ranks, bias.as_deref(), shape, in_halves);
                (
                    Up::Panels(panels),
                    rows.len() * if in_halves { 2 } else { 4 },
                )
            }
            None => {
                let dtype = format.activation_dtype();
                let stored = |tensor: &Tensor| tensor.to_dtype(dtype)?.to_device(device);
                let up = Up::Dense {
                    matrix: stored(&up.t()?.contiguous()?)?,
                    bias: bias.map(stored).transpose()?,
                };
                (up, out * ranks * dtype.size_in_bytes())
            }
        };
        let bytes = up_bytes + (down.elem_count() as f64 * format.bytes_per_weight()) as usize;
        let down = down.to_dtype(format.read_dtype())?;
        let down = down.to_device(&format.read_device(device))?;
        Ok(Self {
            down: Matmul::new(vec![down], Outputs::SideBySide, format, device)?,
            up,
            bytes,
        })
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Update<'_> {
    /// `down · x` of its rows, `[rows, ranks]`.
    fn projected(&self) -> Result<Tensor> {
        let x = rows_of(self.x, self.rows, self.ids)?;
        let down = &self.low_rank.down;
        let projected = down.forward(&x, None, self.many, Epilogue::default())?;
        match &self.low_rank.up {
            Up::Panels(up) if up.unit() != 1.0 => projected * f64::from(up.unit()),
            _ => Ok(projected),
        }
    }

    /// Where a kernel finds all of it; `None` where its rows are many, for which products are quicker.
    fn for_kernel(&self) -> Option<cuda::LowRankRows<'_>> {
        match (&self.low_rank.up, self.low_rank.down.dense()) {
            (Up::Dense { matrix, bias }, Some(down)) if self.many == 0 => Some(cuda::LowRankRows {
                down,
                up: matrix,
                bias: bias.as_ref(),
                rows: self.ids,
            }),
            _ => None,
        }
    }
}

/// Rows of `x`, whatever shape they have: `rows`, ascending, which are `ids` on the device, u32.
///
/// # Errors
/// When the device fails.
pub fn rows_of(x: &Tensor, rows: &[u32], ids: &Tensor) -> Result<Tensor> {
    let first = rows.first().map_or(0, |&row| row as usize);
    match rows.last() {
        Some(&last) if last as usize - first + 1 == rows.len() => x.narrow(0, first, rows.len()),
        _ => x.index_select(ids, 0),
    }
}

/// The updates of every row of a product, for our own kernels.
pub(super) struct RowUpdates<'a> {
    values: Vec<Vec<f32>>,
    of: &'a [Update<'a>],
}

impl<'a> RowUpdates<'a> {
    pub(super) fn new(of: &'a [Update<'a>]) -> Result<Self> {
        let values = of.iter().map(|it| it.projected()?.flatten_all()?.to_vec1());
        Ok(Self {
            values: values.collect::<Result<_>>()?,
            of,
        })
    }

    /// One for each of `rows` rows, or none at all.
    pub(super) fn by_row(&self, rows: usize) -> Result<Vec<Option<RowUpdate<'_>>>> {
        if self.of.is_empty() {
            return Ok(Vec::new());
        }
        let mut by_row = vec![None; rows];
        for (update, values) in self.of.iter().zip(&self.values) {
            let Up::Panels(up) = &update.low_rank.up else {
                bail!("an adapter was made for another weight");
            };
            let ranks = values.len() / update.rows.len();
            for (&row, values) in update.rows.iter().zip(values.chunks_exact(ranks)) {
                by_row[row as usize] = Some(RowUpdate { up, values });
            }
        }
        Ok(by_row)
    }
}

/// A product `y` `[rows, out]`, which nobody else has, with what the updates add to it.
pub(super) fn updated(y: Tensor, updates: &[Update<'_>]) -> Result<Tensor> {
    let mut y = y;
    let mut for_kernel = Vec::new();
    for update in updates {
        if on_gpu(y.device())
            && let Some(rows) = update.for_kernel()
        {
            for_kernel.push(rows);
            continue;
        }
        let Up::Dense { matrix, bias } = &update.low_rank.up else {
            bail!("an adapter was made for another weight");
        };
        let projected = update.projected()?.to_dtype(matrix.dtype())?;
        let added = projected.matmul(matrix)?;
        let added = match bias {
            Some(bias) => added.broadcast_add(bias)?,
            None => added,
        };
        y = y.index_add(update.ids, &added.to_dtype(y.dtype())?, 0)?;
    }
    if let (Some(update), false) = (updates.first(), for_kernel.is_empty()) {
        cuda::add_low_rank(update.x, &y, &for_kernel)?;
    }
    Ok(y)
}
