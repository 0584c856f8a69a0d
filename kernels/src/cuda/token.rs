//! From the last product to a token.

use candle_core::{DType, Result, Tensor};

use super::launch::{Kernel, THREADS, blocks, count, device, pointer, size, suffix, uninit};
use super::ptx;
use crate::Likeliest;

/// See [`logits`](crate::logits).
pub(crate) fn logits(y: &Tensor, vocab: usize, softcap: Option<f64>) -> Result<Tensor> {
    let (rows, table) = y.dims2()?;
    let device = device(y)?;
    let logits = uninit(&device, (rows, vocab), DType::F32)?;
    let kernel = Kernel {
        module: ("token", ptx::TOKEN),
        name: &format!("logits_{}", suffix(y.dtype())?),
        grid: blocks(rows * vocab),
        threads: THREADS,
        shared: 0,
    };
    let arguments = [
        pointer(y)?.into(),
        pointer(&logits)?.into(),
        count(rows * vocab),
        size(table)?,
        size(vocab)?,
        (softcap.unwrap_or(0.0) as f32).into(),
    ];
    // SAFETY: as token.cu says.
    unsafe { kernel.launch(&device, &arguments) }?;
    Ok(logits)
}

/// See [`likeliest`](crate::likeliest).
pub(crate) fn likeliest(logits: &Tensor) -> Result<Vec<Likeliest>> {
    let (rows, vocab) = logits.dims2()?;
    let device = device(logits)?;
    let found = uninit(&device, (rows, 2), DType::U32)?;
    let kernel = Kernel {
        module: ("token", ptx::TOKEN),
        name: "likeliest",
        grid: (rows as u32, 1, 1),
        threads: 1024,
        shared: 0,
    };
    let arguments = [
        pointer(logits)?.into(),
        pointer(&found)?.into(),
        size(vocab)?,
    ];
    // SAFETY: as token.cu says.
    unsafe { kernel.launch(&device, &arguments) }?;
    let found = found.to_vec2::<u32>()?;
    let found = found.iter().map(|row| Likeliest {
        id: row[0],
        finite: row[1] == 1,
    });
    Ok(found.collect())
}
