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

/// Parts of a row that are scanned by blocks of their own, and what a part is like: five numbers.
const PARTS: usize = 32;
const OF_PART: usize = 5;
/// Numbers in a row of what the kernel calls `wanted`, and of what it gives before the likeliest ones.
const OF_REPORT: usize = 5;
const OF_FOUND: usize = 5;

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
    let wanted = Tensor::from_vec(wanted, (rows, OF_REPORT), logits.device())?;
    let width = OF_FOUND + 2 * most;
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
        pointer(&wanted)?.into(),
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
        .map(|(row, report)| {
            let report = report.as_ref().filter(|_| row[1] == 1);
            Likeliest {
                id: row[0],
                finite: row[1] == 1,
                total: report.map_or(0.0, |_| f32::from_bits(row[4])),
                logprobs: report.map(|report| logprobs(row, report.top.min(vocab))),
            }
        })
        .collect())
}

/// A row of what the kernel calls `wanted`: numbers of 32 bits with a sign.
fn wanted(report: &Option<Report>, vocab: usize) -> [u32; OF_REPORT] {
    let colder = |temperature: f32| temperature.recip().to_bits();
    let Some(report) = report else {
        return [-1i32 as u32, 0, 0, 0, colder(1.0)];
    };
    let top = report.top.min(vocab) as u32;
    let [first, end, radius] = match &report.neighbours {
        Some(Neighbours { ids, radius }) => [ids.start, ids.end, *radius],
        None => [0; 3],
    };
    [top, first, end, radius, colder(report.temperature)]
}

fn logprobs(row: &[u32], top: usize) -> Logprobs {
    let pairs = row[OF_FOUND..].chunks_exact(2).take(top);
    Logprobs {
        chosen: f32::from_bits(row[2]),
        near: f32::from_bits(row[3]),
        top: pairs
            .map(|pair| (pair[0], f32::from_bits(pair[1])))
            .collect(),
    }
}
