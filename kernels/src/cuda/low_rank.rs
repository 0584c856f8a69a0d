//! What adapters add to a product, several adapters in one launch.

use candle_core::{DType, Result, Tensor, bail};

use super::arguments::{Adapters, Kernel, THREADS, WARPS, optional_pointer, pack, size, suffix};
use super::launch::{device, pointer, uninit};
use super::ptx;

/// What one adapter adds, and to which rows.
pub(crate) struct LowRankRows<'a> {
    /// `[ranks, in]` and `[ranks, out]`.
    pub down: &'a Tensor,
    pub up: &'a Tensor,
    /// `[out]`.
    pub bias: Option<&'a Tensor>,
    /// u32, of rows that no other adapter has.
    pub rows: &'a Tensor,
}

/// Adds to `y` `[rows, out]`, which nobody else has, `up · down` of these rows of `x` `[rows, in]`. All are of
/// the same dtype.
pub(crate) fn add_low_rank(x: &Tensor, y: &Tensor, all: &[LowRankRows<'_>]) -> Result<()> {
    let x = x.contiguous()?;
    let device = device(&x)?;
    let ((rows, in_features), (_, out)) = (x.dims2()?, y.dims2()?);
    let most = |number: fn(&LowRankRows<'_>) -> Result<usize>| -> Result<usize> {
        all.iter().try_fold(0, |most, it| Ok(number(it)?.max(most)))
    };
    let (ranks, count) = (most(|it| it.down.dim(0))?, most(|it| it.rows.dim(0))?);
    let projected = uninit(&device, (rows, ranks), DType::F32)?;
    for all in all.chunks(Adapters::MOST) {
        let mut adapters = Adapters::default();
        for (index, it) in all.iter().enumerate() {
            if (it.down.dtype(), it.up.dtype(), y.dtype()) != (x.dtype(), x.dtype(), x.dtype()) {
                bail!("an adapter and what it changes are of different dtypes")
            }
            adapters.down[index] = pointer(it.down)?;
            adapters.up[index] = pointer(it.up)?;
            adapters.bias[index] = optional_pointer(it.bias)?;
            adapters.rows[index] = pointer(it.rows)?;
            adapters.ranks[index] = it.down.dim(0)? as i32;
            adapters.counts[index] = it.rows.dim(0)? as i32;
        }
        let kernel = |name: &str, across: usize, threads: usize, arguments: &[_]| {
            let kernel = Kernel {
                module: ("low_rank", ptx::LOW_RANK),
                name: &format!("{name}_{}", suffix(x.dtype())?),
                grid: (across as u32, count as u32, all.len() as u32),
                threads,
                shared: 0,
            };
            // SAFETY: as low_rank.cu says; the extents are those of the tensors.
            unsafe { kernel.launch(&device, arguments) }
        };
        let arguments = [
            adapters.into(),
            pointer(&x)?.into(),
            pointer(&projected)?.into(),
            size(in_features)?,
            size(ranks)?,
        ];
        kernel("shrink", ranks.div_ceil(WARPS), WARPS * 32, &arguments)?;
        let arguments = [
            adapters.into(),
            pointer(&projected)?.into(),
            pointer(y)?.into(),
            size(out)?,
            size(ranks)?,
        ];
        let packs = out.div_ceil(pack(y.dtype()));
        kernel("expand", packs.div_ceil(THREADS), THREADS, &arguments)?;
    }
    Ok(())
}
