//! Attention within images.

use candle_core::{DType, Result, Tensor, bail};

use super::arguments::{Kernel, Matrices, Second, THREADS, blocks, count, pack, size, suffix};
use super::attention::{Softmax, matrices, softmax};
use super::launch::{Gpu, SCORES, device, multiply, pointer, uninit};
use super::prefixes::merge_heads;
use super::ptx;
use crate::attention::Scoring;

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
    let images = rows / patches;
    let by_heads = uninit(&device, (3, images * heads, patches, head_dim), qkv.dtype())?;
    split_heads(&device, qkv, &by_heads, (heads, patches, head_dim))?;
    let attended = uninit(&device, (images * heads, patches, head_dim), qkv.dtype())?;
    let at_once = (SCORES / (patches * patches)).max(1);
    for start in (0..images * heads).step_by(at_once) {
        let batch = at_once.min(images * heads - start);
        let part = |index: usize| -> Result<Matrices> {
            let of_all = by_heads.narrow(0, index, 1)?.squeeze(0)?;
            matrices(&of_all.narrow(0, start, batch)?)
        };
        let scores = uninit(&device, (batch, patches, patches), DType::F32)?;
        let weights = uninit(&device, (batch, patches, patches), qkv.dtype())?;
        // SAFETY: the matrices are those of tensors with these shapes.
        unsafe {
            multiply(
                &device,
                batch,
                (patches, patches, head_dim),
                part(0)?,
                (part(1)?, Second::Transposed),
                matrices(&scores)?,
            )
        }?;
        softmax(&device, &scores, Softmax::default(), &weights, scoring)?;
        // SAFETY: as above.
        unsafe {
            multiply(
                &device,
                batch,
                (patches, head_dim, patches),
                matrices(&weights)?,
                (part(2)?, Second::AsIs),
                matrices(&attended.narrow(0, start, batch)?)?,
            )
        }?;
    }
    let out = uninit(&device, (rows, heads * head_dim), qkv.dtype())?;
    let attended = attended.reshape((images, heads, patches, head_dim))?;
    merge_heads(&device, &attended, None, &out)?;
    Ok(out)
}

/// Queries, keys and values of images, from an order by patches to one by heads.
fn split_heads(
    device: &Gpu,
    from: &Tensor,
    to: &Tensor,
    (heads, patches, head_dim): (usize, usize, usize),
) -> Result<()> {
    let values = from.elem_count();
    let kernel = Kernel {
        module: ("attention", ptx::ATTENTION),
        name: &format!("split_heads_{}", suffix(from.dtype())?),
        grid: blocks(values.div_ceil(pack(from.dtype()))),
        threads: THREADS,
        shared: 0,
    };
    let arguments = [
        pointer(from)?.into(),
        pointer(to)?.into(),
        count(values),
        size(heads)?,
        size(patches)?,
        size(head_dim)?,
    ];
    // SAFETY: as attention.cu says; both hold as many values.
    unsafe { kernel.launch(device, &arguments) }
}
