//! From the last product to a token.

use candle_core::{D, DType, Device, Result, Tensor};

use super::cuda;

/// The likeliest token of a row of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Likeliest {
    /// Of equally likely ones the lowest.
    pub id: u32,
    /// All logits of the row are finite numbers.
    pub finite: bool,
}

/// Logits f32 `[rows, vocab]` from products `[rows, table]` with the token table: those of the first
/// `vocab` tokens, squashed to `±softcap`.
///
/// # Errors
/// When the device fails.
pub fn logits(products: &Tensor, vocab: usize, softcap: Option<f64>) -> Result<Tensor> {
    if products.device().is_cuda() {
        return cuda::logits(products, vocab, softcap);
    }
    let logits = products
        .narrow(1, 0, vocab)?
        .to_dtype(DType::F32)?
        .contiguous()?;
    match softcap {
        Some(cap) => (logits / cap)?.tanh()? * cap,
        None => Ok(logits),
    }
}

/// The likeliest token of each row of `logits`, f32 `[rows, vocab]`.
///
/// # Errors
/// When the device fails.
pub fn likeliest(logits: &Tensor) -> Result<Vec<Likeliest>> {
    if logits.device().is_cuda() {
        return cuda::likeliest(logits);
    }
    let ids = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
    // A sum is finite only if all its terms are, and logits are far too small to overflow it.
    let sums = logits.sum(D::Minus1)?.to_vec1::<f32>()?;
    let found = ids.into_iter().zip(sums).map(|(id, sum)| Likeliest {
        id,
        finite: sum.is_finite(),
    });
    Ok(found.collect())
}

/// One row of `logits` `[rows, vocab]`, in the CPU's memory.
///
/// # Errors
/// When the device fails.
pub fn row(logits: &Tensor, index: usize) -> Result<Tensor> {
    let row = logits.narrow(0, index, 1)?.squeeze(0)?;
    match row.device().is_cpu() {
        true => Ok(row),
        // A view would be brought over with all of what it is a view of.
        false => row.force_contiguous()?.to_device(&Device::Cpu),
    }
}
