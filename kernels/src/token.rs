//! From the last product to a token.

use std::cmp::Ordering;
use std::ops::Range;

use candle_core::{D, DType, Device, Result, Tensor};

use super::{cuda, on_gpu};

/// The likeliest token of a row of logits.
#[derive(Debug, Clone, PartialEq)]
pub struct Likeliest {
    /// Of equally likely ones the lowest.
    pub id: u32,
    /// All logits of the row are finite numbers.
    pub finite: bool,
    /// What a [`Report`] asked for, if all is finite.
    pub logprobs: Option<Logprobs>,
    /// The logarithm of the sum of `exp((logit − highest) / temperature)` over all tokens, at the
    /// temperature of the report; 0 without one.
    pub total: f32,
}

/// What is to be reported with a token.
#[derive(Debug, Clone)]
pub struct Report {
    /// How many of the likeliest tokens.
    pub top: usize,
    pub neighbours: Option<Neighbours>,
    /// Above 0; that of [`Likeliest::total`].
    pub temperature: f32,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            top: 0,
            neighbours: None,
            temperature: 1.0,
        }
    }
}

/// Tokens whose ids are in the order of what they mean, such as places along an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbours {
    /// The ids of all of them; the vocabulary has every one.
    pub ids: Range<u32>,
    /// How far the ids of neighbours are from a token's own.
    pub radius: u32,
}

/// Natural logarithms of probabilities at temperature 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    pub chosen: f32,
    /// Of the chosen token and its neighbours together.
    pub near: f32,
    /// The likeliest tokens, likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// Logits f32 `[rows, vocab]` from products `[rows, table]` with the token table: those of the first
/// `vocab` tokens, squashed to `±softcap`.
///
/// # Errors
/// When the device fails.
pub fn logits(products: &Tensor, vocab: usize, softcap: Option<f64>) -> Result<Tensor> {
    if on_gpu(products.device()) {
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

/// The likeliest token of each row of `logits`, f32 `[rows, vocab]`, with log-probabilities for those
/// rows that have a report.
///
/// # Errors
/// When the device fails.
pub fn likeliest(logits: &Tensor, reports: &[Option<Report>]) -> Result<Vec<Likeliest>> {
    if on_gpu(logits.device()) {
        return cuda::likeliest(logits, reports);
    }
    let ids = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
    // A sum is finite only if all its terms are, and logits are far too small to overflow it.
    let sums = logits.sum(D::Minus1)?.to_vec1::<f32>()?;
    let rows = ids.into_iter().zip(sums).zip(reports).enumerate();
    rows.map(|(index, ((id, sum), report))| {
        let finite = sum.is_finite();
        let mut likeliest = Likeliest {
            id,
            finite,
            logprobs: None,
            total: 0.0,
        };
        if let Some(report) = report
            && finite
        {
            let row = row(logits, index)?.to_vec1::<f32>()?;
            likeliest.total = total(&row, report.temperature);
            likeliest.logprobs = Some(logprobs(&row, id, report));
        }
        Ok(likeliest)
    })
    .collect()
}

/// The log-softmax of the `chosen` token of a row, and of what `report` asks for.
pub fn logprobs(logits: &[f32], chosen: u32, report: &Report) -> Logprobs {
    let max = highest(logits);
    let sum = |logits: &[f32]| -> f64 { logits.iter().map(|&x| f64::from(x - max).exp()).sum() };
    let all = sum(logits).ln();
    let of = |id: u32| (f64::from(logits[id as usize] - max) - all) as f32;
    let near = match &report.neighbours {
        Some(Neighbours { ids, radius }) if ids.contains(&chosen) => {
            let first = ids.start.max(chosen.saturating_sub(*radius));
            let end = ids.end.min(chosen + radius + 1);
            (sum(&logits[first as usize..end as usize]).ln() - all) as f32
        }
        _ => of(chosen),
    };
    Logprobs {
        chosen: of(chosen),
        near,
        top: likeliest_ids(logits, report.top)
            .into_iter()
            .map(|id| (id, of(id)))
            .collect(),
    }
}

/// See [`Likeliest::total`].
pub fn total(logits: &[f32], temperature: f32) -> f32 {
    let max = highest(logits);
    let weight = |&logit: &f32| f64::from((logit - max) / temperature).exp();
    logits.iter().map(weight).sum::<f64>().ln() as f32
}

fn highest(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The `count` likeliest tokens, likeliest first; of equally likely ones the lower id.
pub fn likeliest_ids(logits: &[f32], count: usize) -> Vec<u32> {
    if count == 0 {
        return Vec::new();
    }
    let order = |&a: &u32, &b: &u32| -> Ordering {
        let (x, y) = (logits[a as usize], logits[b as usize]);
        y.total_cmp(&x).then(a.cmp(&b))
    };
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    if count < ids.len() {
        ids.select_nth_unstable_by(count, order);
        ids.truncate(count);
    }
    ids.sort_unstable_by(order);
    ids
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_id_and_no_more_than_all_tokens_are_given() {
        assert_eq!(
            likeliest_ids(&[0.0, 3.0, 1.0, 2.0, -1.0], 9),
            [1, 3, 2, 0, 4]
        );
        assert_eq!(likeliest_ids(&[1.0, 1.0, 1.0], 2), [0, 1]);
        assert!(likeliest_ids(&[1.0], 0).is_empty());
    }
}
