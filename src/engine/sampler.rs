//! Logits to tokens.

mod keep_top;

use candle_core::{Result, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling as Strategy};

use self::keep_top::keep_top;
use super::{Neighbours, Sampling};
use crate::kernels::{self, Likeliest, Logprobs, Report};

/// Below this temperature the likeliest token is taken: the softmax would only overflow.
const GREEDY_BELOW: f64 = 1e-7;

/// Chooses the tokens of one request. It has its own random numbers, so that the same seed gives
/// the same tokens whatever else is in the batch.
pub(super) struct Sampler {
    /// None: greedy.
    processor: Option<LogitsProcessor>,
    top_k: Option<usize>,
    top_p: Option<f64>,
    /// What to report with each token, if log-probabilities are wanted at all.
    report: Option<Report>,
}

/// A sampled token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SampledToken {
    pub id: u32,
    pub logprobs: Option<Logprobs>,
}

impl Sampler {
    pub(super) fn new(
        sampling: &Sampling,
        logprobs: Option<usize>,
        neighbours: Option<Neighbours>,
    ) -> Self {
        let temperature = sampling.temperature;
        let processor = (temperature >= GREEDY_BELOW).then(|| {
            let seed = sampling.seed.unwrap_or_else(rand::random);
            LogitsProcessor::from_sampling(seed, Strategy::All { temperature })
        });
        Self {
            processor,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            report: logprobs.map(|top| Report { top, neighbours }),
        }
    }

    /// What this sampler needs of a row of a step.
    pub(super) fn wanted(&self) -> Wanted {
        match &self.processor {
            Some(_) => Wanted::Logits,
            None => Wanted::Likeliest(self.report.clone()),
        }
    }

    /// Chooses a token from a row of a step.
    ///
    /// # Errors
    /// When the probabilities can't be sampled from.
    pub(super) fn choose(&mut self, row: &Row) -> Result<SampledToken> {
        let (Some(processor), Some(logits)) = (&mut self.processor, &row.logits) else {
            return Ok(SampledToken {
                id: row.likeliest.id,
                logprobs: row.likeliest.logprobs.clone(),
            });
        };
        let (top_k, top_p) = (self.top_k, self.top_p);
        let id = processor.sample_f(logits, |probabilities| {
            keep_top(probabilities, top_k, top_p);
        })?;
        let logprobs = match &self.report {
            Some(report) => Some(kernels::logprobs(&logits.to_vec1::<f32>()?, id, report)),
            None => None,
        };
        Ok(SampledToken { id, logprobs })
    }
}

/// What a sampler needs of a row.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// The likeliest token, and what is to be reported with it.
    Likeliest(Option<Report>),
    /// All logits.
    Logits,
}

/// One row of a step's logits, as far as its sampler needs it.
pub(super) struct Row {
    pub likeliest: Likeliest,
    /// `[vocab]`, f32, in the CPU's memory.
    pub logits: Option<Tensor>,
}

/// Brings from the device what is `wanted` of each row of `logits` (`[rows, vocab]`, f32).
///
/// # Errors
/// When the device fails.
pub(super) fn fetch_rows(logits: &Tensor, wanted: &[Wanted]) -> Result<Vec<Row>> {
    let report = |wanted: &Wanted| match wanted {
        Wanted::Likeliest(report) => report.clone(),
        Wanted::Logits => None,
    };
    let reports: Vec<_> = wanted.iter().map(report).collect();
    let likeliest = kernels::likeliest(logits, &reports)?;
    let fetch = |(index, likeliest)| {
        let logits = match wanted[index] {
            Wanted::Logits => Some(kernels::row(logits, index)?),
            Wanted::Likeliest(_) => None,
        };
        Ok(Row { likeliest, logits })
    };
    likeliest.into_iter().enumerate().map(fetch).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    const LOGITS: [f32; 5] = [0.0, 3.0, 1.0, 2.0, -1.0];

    fn batch(rows: &[[f32; 5]]) -> Tensor {
        let flat: Vec<f32> = rows.concat();
        Tensor::from_vec(flat, (rows.len(), 5), &Device::Cpu).unwrap()
    }

    fn sampling(seed: u64) -> Sampling {
        Sampling {
            temperature: 1.0,
            seed: Some(seed),
            ..Sampling::greedy()
        }
    }

    /// What the sampler needs of the last row of `logits`.
    fn last_row(sampler: &Sampler, logits: &Tensor) -> Row {
        let wanted = vec![sampler.wanted(); logits.dim(0).unwrap()];
        fetch_rows(logits, &wanted).unwrap().pop().unwrap()
    }

    /// The tokens that a sampler chooses from the last row of `logits`, again and again.
    fn draw(sampling: &Sampling, logits: &Tensor, count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling, None, None);
        let row = last_row(&sampler, logits);
        (0..count)
            .map(|_| sampler.choose(&row).unwrap().id)
            .collect()
    }

    #[test]
    fn greedy_takes_the_likeliest_token_without_fetching_logits() {
        let mut sampler = Sampler::new(&Sampling::greedy(), None, None);
        let row = last_row(&sampler, &batch(&[LOGITS]));
        assert!(row.logits.is_none());
        assert_eq!(sampler.choose(&row).unwrap().id, 1);
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens_in_any_batch() {
        let alone = draw(&sampling(7), &batch(&[LOGITS]), 50);
        let together = draw(&sampling(7), &batch(&[[9.0; 5], LOGITS]), 50);
        assert_eq!(alone, together);
        assert_ne!(alone, draw(&sampling(8), &batch(&[LOGITS]), 50));
    }

    #[test]
    fn top_k_and_top_p_keep_to_the_likeliest_tokens() {
        let top_k = Sampling {
            top_k: Some(2),
            ..sampling(1)
        };
        let top_p = Sampling {
            top_p: Some(0.7),
            ..sampling(1)
        };
        let both = Sampling {
            top_k: Some(3),
            top_p: Some(0.5),
            ..sampling(1)
        };
        let drawn = |sampling: &Sampling| {
            let mut ids = draw(sampling, &batch(&[LOGITS]), 300);
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        // Softmax: 0.032, 0.636, 0.086, 0.234, 0.012.
        assert_eq!(drawn(&top_k), [1, 3]);
        assert_eq!(drawn(&top_p), [1, 3]);
        assert_eq!(drawn(&both), [1]);
        assert_eq!(drawn(&sampling(1)), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_tiny_difference_in_the_logits_changes_no_draw() {
        let logits: Vec<f32> = (0..500).map(|i| (i as f32 * 0.37).sin()).collect();
        let nudged: Vec<f32> = (0..500)
            .map(|i| logits[i] + (i % 3) as f32 * 1e-6)
            .collect();
        let row = |logits: &[f32]| {
            Tensor::new(logits, &Device::Cpu)
                .unwrap()
                .unsqueeze(0)
                .unwrap()
        };
        for (top_k, top_p) in [(Some(40), None), (None, Some(0.9)), (Some(40), Some(0.9))] {
            let sampling = Sampling {
                top_k,
                top_p,
                ..sampling(5)
            };
            let ours = draw(&sampling, &row(&logits), 200);
            let theirs = draw(&sampling, &row(&nudged), 200);
            assert_eq!(ours, theirs, "{top_k:?} {top_p:?}");
        }
    }

    #[test]
    fn a_temperature_near_zero_is_greedy() {
        let cold = Sampling {
            temperature: 1e-300,
            ..sampling(1)
        };
        assert_eq!(draw(&cold, &batch(&[LOGITS]), 3), [1, 1, 1]);
    }

    #[test]
    fn logprobs_are_those_of_temperature_one() {
        let sampling = Sampling {
            temperature: 5.0,
            top_k: Some(1),
            ..sampling(1)
        };
        let mut sampler = Sampler::new(&sampling, Some(3), None);
        let row = last_row(&sampler, &batch(&[LOGITS]));
        let logprobs = sampler.choose(&row).unwrap().logprobs.unwrap();
        let sum: f32 = LOGITS.iter().map(|x| x.exp()).sum();
        assert!((logprobs.chosen - (3.0 - sum.ln())).abs() < 1e-6);
        let ids: Vec<u32> = logprobs.top.iter().map(|&(id, _)| id).collect();
        assert_eq!(ids, [1, 3, 2]);
        assert!((logprobs.top[2].1 - (1.0 - sum.ln())).abs() < 1e-6);
    }

    #[test]
    fn neighbours_add_to_the_probability_of_a_token_of_their_kind() {
        let neighbours = Neighbours {
            ids: 1..4,
            radius: 1,
        };
        let mut sampler = Sampler::new(&Sampling::greedy(), Some(0), Some(neighbours));
        let sum: f32 = LOGITS.iter().map(|x| x.exp()).sum();
        let mut near = |logits: [f32; 5]| {
            let row = last_row(&sampler, &batch(&[logits]));
            sampler.choose(&row).unwrap().logprobs.unwrap().near.exp()
        };
        // The likeliest is token 1; token 0 is not of its kind, and 3 is too far.
        assert!((near(LOGITS) - (3f32.exp() + 1f32.exp()) / sum).abs() < 1e-6);
        // A token of another kind is by itself.
        let mut other = LOGITS;
        other.reverse();
        other.swap(3, 4);
        assert!((near(other) - 3f32.exp() / sum).abs() < 1e-6);
    }

    #[test]
    fn a_row_that_is_not_finite_does_not_affect_its_neighbours() {
        let broken = [0.0, f32::NAN, 0.0, 0.0, 0.0];
        let infinite = [0.0, f32::INFINITY, 0.0, 0.0, 0.0];
        let wanted = vec![Wanted::Likeliest(Some(Report::default())); 3];
        let rows = fetch_rows(&batch(&[LOGITS, broken, infinite]), &wanted).unwrap();
        let finite: Vec<bool> = rows.iter().map(|row| row.likeliest.finite).collect();
        assert_eq!(finite, [true, false, false]);
    }
}
