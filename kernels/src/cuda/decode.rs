//! Attention of rows that decode.

use candle_core::{DType, Result, Tensor, bail};

use super::arguments::{Kernel, THREADS, size, suffix};
use super::attention::Heads;
use super::launch::{Gpu, multiprocessors, pointer, uninit};
use super::ptx;
use crate::attention::{CachedRows, Scoring};

/// Values of a head that `decode` takes at most, and groups of heads that share a key head.
const MOST_HEAD_DIM: usize = 256;
pub(super) const MOST_GROUPS: usize = 4;

/// Keys that one block of `decode` attends to: a multiple of the least, up to the most.
const LEAST_PART: usize = 16;
const MOST_PART: usize = 256;

/// The last rows, which decode, each over what it sees of its slot, into the last rows of `out`.
#[expect(
    clippy::too_many_arguments,
    reason = "queries, keys, values, the result, and what they are"
)]
pub(super) fn decode(
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
