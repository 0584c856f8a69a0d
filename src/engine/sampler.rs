//! Logits to tokens.

mod likeliest;

use candle_core::{Result, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling as Strategy};

use self::likeliest::{keep_top, likeliest};
use super::{Neighbours, Sampling};
use crate::kernels;

/// Below this temperature the likeliest token is taken: the softmax would only overflow.
const GREEDY_BELOW: f64 = 1e-7;

/// Chooses the tokens of one request. It has its own random numbers, so that the same seed gives
/// the same tokens whatever else is in the batch.
pub(super) struct Sampler {
    /// None: greedy.
    processor: Option<LogitsProcessor>,
    top_k: Option<usize>,
    top_p: Option<f64>,
    /// How many of the likeliest tokens to report, if log-probabilities are wanted at all.
    logprobs: Option<usize>,
    neighbours: Option<Neighbours>,
}

/// A sampled token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SampledToken {
    pub id: u32,
    pub logprobs: Option<Logprobs>,
}

/// Natural logarithms of probabilities at temperature 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Logprobs {
    pub chosen: f32,
    /// Of the chosen token and its neighbours together.
    pub near: f32,
    /// The likeliest tokens, likeliest first.
    pub top: Vec<(u32, f32)>,
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
            logprobs,
            neighbours,
        }
    }

    /// Whether this sampler needs the logits themselves, and not the likeliest token alone.
    pub(super) fn needs_logits(&self) -> bool {
        self.processor.is_some() || self.logprobs.is_some()
    }

    /// Chooses a token from a row of a step.
    ///
    /// # Errors
    /// When the probabilities can't be sampled from.
    pub(super) fn choose(&mut self, row: &Row) -> Result<SampledToken> {
        let Some(logits) = &row.logits else {
            return Ok(SampledToken {
                id: row.likeliest,
                logprobs: None,
            });
        };
        let id = match &mut self.processor {
            Some(processor) => {
                let (top_k, top_p) = (self.top_k, self.top_p);
                processor.sample_f(logits, |probabilities| {
                    keep_top(probabilities, top_k, top_p)
                })?
            }
            None => row.likeliest,
        };
        let logprobs = match self.logprobs {
            Some(top) => Some(self.logprobs(&logits.to_vec1::<f32>()?, id, top)),
            None => None,
        };
        Ok(SampledToken { id, logprobs })
    }

    /// The log-softmax of the chosen token, of it and its neighbours, and of the `top` likeliest ones.
    fn logprobs(&self, logits: &[f32], chosen: u32, top: usize) -> Logprobs {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum =
            |logits: &[f32]| -> f64 { logits.iter().map(|&x| f64::from(x - max).exp()).sum() };
        let all = sum(logits).ln();
        let of = |id: u32| (f64::from(logits[id as usize] - max) - all) as f32;
        let near = match &self.neighbours {
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
            top: likeliest(logits, top)
                .into_iter()
                .map(|id| (id, of(id)))
                .collect(),
        }
    }
}

/// One row of a step's logits, as far as its sampler needs it.
pub(super) struct Row {
    /// The likeliest token.
    pub likeliest: u32,
    /// All logits are finite numbers.
    pub finite: bool,
    /// `[vocab]`, f32, in the CPU's memory.
    pub logits: Option<Tensor>,
}

/// Brings from the device what is needed of `logits` (`[rows, vocab]`, f32): of every row the
/// likeliest token, and the logits of those rows for which `needs_logits` says so.
///
/// # Errors
/// When the device fails.
pub(super) fn fetch_rows(logits: &Tensor, needs_logits: &[bool]) -> Result<Vec<Row>> {
    let likeliest = kernels::likeliest(logits)?;
    let fetch = |(index, row): (usize, kernels::Likeliest)| {
        let logits = needs_logits[index].then(|| kernels::row(logits, index));
        Ok(Row {
            likeliest: row.id,
            finite: row.finite,
            logits: logits.transpose()?,
        })
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

    /// The tokens that a sampler chooses from the last row of `logits`, again and again.
    fn draw(sampling: &Sampling, logits: &Tensor, count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling, None, None);
        let rows = logits.dim(0).unwrap();
        let rows = fetch_rows(logits, &vec![true; rows]).unwrap();
        let row = rows.last().unwrap();
        (0..count)
            .map(|_| sampler.choose(row).unwrap().id)
            .collect()
    }

    #[test]
    fn greedy_takes_the_likeliest_token_without_fetching_logits() {
        let mut sampler = Sampler::new(&Sampling::greedy(), None, None);
        assert!(!sampler.needs_logits());
        let rows = fetch_rows(&batch(&[LOGITS]), &[false]).unwrap();
        assert!(rows[0].logits.is_none());
        assert_eq!(sampler.choose(&rows[0]).unwrap().id, 1);
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
        let rows = fetch_rows(&batch(&[LOGITS]), &[true]).unwrap();
        let logprobs = sampler.choose(&rows[0]).unwrap().logprobs.unwrap();
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
            let rows = fetch_rows(&batch(&[logits]), &[true]).unwrap();
            sampler
                .choose(&rows[0])
                .unwrap()
                .logprobs
                .unwrap()
                .near
                .exp()
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
        let rows = fetch_rows(&batch(&[LOGITS, broken, infinite]), &[false; 3]).unwrap();
        let finite: Vec<bool> = rows.iter().map(|row| row.finite).collect();
        assert_eq!(finite, [true, false, false]);
    }
}
