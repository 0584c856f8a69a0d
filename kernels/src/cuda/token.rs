//! From the last product to a token.

use candle_core::{DType, Result, Tensor};

use super::arguments::{Kernel, THREADS, pack, size, suffix};
use super::launch::{device, pointer, uninit};
use super::ptx;
use crate::token::{Likeliest, Logprobs, Neighbours, Report};

/// See [`logits`](crate::logits).
pub(crate) fn logits(y: &Tensor, vocab: usize, softcap: Option<f64>) -> Result<Tensor> {
    let (rows, table) = y.dims2()?;
    let device = device(y)?;
    let logits = uninit(&device, (rows, vocab), DType::F32)?;
    let kernel = Kernel {
        module: ("token", ptx::TOKEN),
        name: &format!("logits_{}", suffix(y.dtype())?),
        grid: (
            vocab.div_ceil(pack(y.dtype())).div_ceil(THREADS) as u32,
            rows as u32,
            1,
        ),
        threads: THREADS,
        shared: 0,
    };
    let arguments = [
        pointer(y)?.into(),
        pointer(&logits)?.into(),
        size(table)?,
        size(vocab)?,
        (softcap.unwrap_or(0.0) as f32).into(),
    ];
    // SAFETY: as token.cu says.
    unsafe { kernel.launch(&device, &arguments) }?;
    Ok(logits)
}

/// Parts of a row that are scanned by blocks of their own, and what a part is like: four numbers.
const PARTS: usize = 32;
const OF_PART: usize = 4;

/// See [`likeliest`](crate::likeliest).
pub(crate) fn likeliest(logits: &Tensor, reports: &[Option<Report>]) -> Result<Vec<Likeliest>> {
    let (rows, vocab) = logits.dims2()?;
    let device = device(logits)?;
    let top = |report: &Option<Report>| report.as_ref().map_or(0, |report| report.top);
    let most = reports.iter().map(top).max().unwrap_or(0).min(vocab);
    let wanted: Vec<u32> = reports
        .iter()
        .flat_map(|report| wanted(report, vocab))
        .collect();
    let wanted = Tensor::from_vec(wanted, (rows, 4), logits.device())?;
    let width = 4 + 2 * most;
    let found = uninit(&device, (rows, width), DType::U32)?;
    let parts = uninit(&device, (rows, PARTS, OF_PART), DType::U32)?;
    let kernel = Kernel {
        module: ("token", ptx::TOKEN),
        name: "scan",
        grid: (PARTS as u32, rows as u32, 1),
        threads: 1024,
        shared: 0,
    };
    let arguments = [
        pointer(logits)?.into(),
        pointer(&parts)?.into(),
        size(vocab)?,
    ];
    // SAFETY: as token.cu says.
    unsafe { kernel.launch(&device, &arguments) }?;
    let kernel = Kernel {
        name: "likeliest",
        grid: (rows as u32, 1, 1),
        ..kernel
    };
    let arguments = [
        pointer(logits)?.into(),
        pointer(&parts)?.into(),
        pointer(&wanted)?.into(),
        pointer(&found)?.into(),
        size(vocab)?,
        size(PARTS)?,
        size(most)?,
    ];
    // SAFETY: as token.cu says.
    unsafe { kernel.launch(&device, &arguments) }?;
    let found = found.flatten_all()?.to_vec1::<u32>()?;
    let rows = found.chunks_exact(width).zip(reports);
    Ok(rows
        .map(|(row, report)| Likeliest {
            id: row[0],
            finite: row[1] == 1,
            logprobs: match report {
                Some(report) if row[1] == 1 => Some(reported(&row[2..], report.top.min(vocab))),
                _ => None,
            },
        })
        .collect())
}

/// A row of what the kernel calls `reports`: numbers of 32 bits with a sign.
fn wanted(report: &Option<Report>, vocab: usize) -> [u32; 4] {
    let Some(Report { top, neighbours }) = report else {
        return [-1i32 as u32, 0, 0, 0];
    };
    let top = (*top).min(vocab) as u32;
    match neighbours {
        Some(Neighbours { ids, radius }) => [top, ids.start, ids.end, *radius],
        None => [top, 0, 0, 0],
    }
}

fn reported(row: &[u32], top: usize) -> Logprobs {
    Logprobs {
        chosen: f32::from_bits(row[0]),
        near: f32::from_bits(row[1]),
        top: row[2..]
            .chunks_exact(2)
            .take(top)
            .map(|pair| (pair[0], f32::from_bits(pair[1])))
            .collect(),
    }
}
