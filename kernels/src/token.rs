//! From the last product to a token.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::Range;

use candle_core::{D, DType, Device, Result, Tensor};
use rayon::prelude::*;

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
    let rows: Vec<_> = rows.collect();
    let likeliest = |(index, ((id, sum), report)): (usize, ((u32, f32), &Option<Report>))| {
        let mut likeliest = Likeliest {
            id,
            finite: sum.is_finite(),
            logprobs: None,
            total: 0.0,
        };
        if let Some(report) = report
            && likeliest.finite
        {
            let row = row(logits, index)?.to_vec1::<f32>()?;
            let logprobs = logprobs(&row, id, report);
            likeliest.total = match report.temperature {
                1.0 => -logprobs.chosen,
                temperature => total(&row, temperature),
            };
            likeliest.logprobs = Some(logprobs);
        }
        Ok(likeliest)
    };
    rows.into_par_iter().map(likeliest).collect()
}

/// The log-softmax of the `chosen` token of a row, and of what `report` asks for.
pub fn logprobs(logits: &[f32], chosen: u32, report: &Report) -> Logprobs {
    let max = highest(logits);
    let all = sum(logits, max, 1.0).ln();
    let of = |id: u32| (f64::from(logits[id as usize] - max) - all) as f32;
    let near = match &report.neighbours {
        Some(Neighbours { ids, radius }) if ids.contains(&chosen) => {
            let first = ids.start.max(chosen.saturating_sub(*radius));
            let end = ids.end.min(chosen + radius + 1);
            (sum(&logits[first as usize..end as usize], max, 1.0).ln() - all) as f32
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
    sum(logits, highest(logits), temperature.recip()).ln() as f32
}

fn highest(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Of `exp((logit − max) · colder)`.
fn sum(logits: &[f32], max: f32, colder: f32) -> f64 {
    let weight = |&logit: &f32| f64::from(((logit - max) * colder).exp());
    logits.iter().map(weight).sum()
}

/// The `count` likeliest tokens, likeliest first; of equally likely ones the lower id.
pub fn likeliest_ids(logits: &[f32], count: usize) -> Vec<u32> {
    if count == 0 {
        return Vec::new();
    }
    // The least of those found so far is at the top; nearly every other token is less.
    let mut found: BinaryHeap<Reverse<Ranked>> = BinaryHeap::with_capacity(count.min(logits.len()));
    for (&logit, id) in logits.iter().zip(0..) {
        // A negative zero is no less than zero.
        let logit = logit + 0.0;
        let ranked = Reverse(Ranked { logit, id });
        if found.len() < count {
            found.push(ranked);
        } else if let Some(mut least) = found.peek_mut()
            && ranked < *least
        {
            *least = ranked;
        }
    }
    let found = found.into_sorted_vec().into_iter();
    found.map(|Reverse(ranked)| ranked.id).collect()
}

/// A token, greater the likelier it is.
#[derive(Clone, Copy)]
struct Ranked {
    logit: f32,
    id: u32,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_logit = self.logit.total_cmp(&other.logit);
        by_logit.then(other.id.cmp(&self.id))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

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
