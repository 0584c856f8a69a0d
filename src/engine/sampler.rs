//! Logits to tokens.

mod draw;

use candle_core::{Result, Tensor};

use self::draw::{CANDIDATES, Draw};
use super::{Neighbours, Sampling};
use crate::kernels::{self, Likeliest, Logprobs, Report};

/// Below this temperature the likeliest token is taken: the softmax would only overflow.
const GREEDY_BELOW: f64 = 1e-7;

/// Chooses the tokens of one request. It has its own random numbers, so that the same seed gives
/// the same tokens whatever else is in the batch.
pub(super) struct Sampler {
    /// None: greedy.
    draw: Option<Draw>,
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
        let report = |top| Report {
            top,
            neighbours,
            ..Report::default()
        };
        Self {
            draw: (sampling.temperature >= GREEDY_BELOW).then(|| Draw::new(sampling)),
            report: logprobs.map(report),
        }
    }

    /// What is to be known of a row of a step.
    pub(super) fn wanted(&self) -> Option<Report> {
        let Some(draw) = &self.draw else {
            return self.report.clone();
        };
        let report = self.report.clone().unwrap_or_default();
        Some(Report {
            top: report.top.max(CANDIDATES),
            temperature: draw.temperature() as f32,
            ..report
        })
    }

    /// Chooses a token from a row of a step, which is finite.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn choose(&mut self, row: &Row) -> Result<SampledToken> {
        let likeliest = &row.likeliest;
        let (Some(draw), Some(found)) = (&mut self.draw, &likeliest.logprobs) else {
            return Ok(SampledToken {
                id: likeliest.id,
                logprobs: likeliest.logprobs.clone(),
            });
        };
        let vocab = row.logits.dim(1)?;
        let id = draw.token(&found.top, likeliest.total, vocab, || row.all())?;
        let logprobs = match &self.report {
            Some(report) => Some(row.logprobs(id, found, report)?),
            None => None,
        };
        Ok(SampledToken { id, logprobs })
    }
}

/// One row of a step's logits.
pub(super) struct Row {
    pub likeliest: Likeliest,
    /// `[rows, vocab]`, f32, where the model runs.
    logits: Tensor,
    index: usize,
}

impl Row {
    /// All logits, `[vocab]`.
    fn all(&self) -> Result<Vec<f32>> {
        kernels::row(&self.logits, self.index)?.to_vec1()
    }

    /// What is reported of a token that was drawn from what was `found`.
    fn logprobs(&self, id: u32, found: &Logprobs, report: &Report) -> Result<Logprobs> {
        let neighbours = report.neighbours.as_ref();
        let has_neighbours = neighbours.is_some_and(|it| it.ids.contains(&id));
        match found.top.iter().find(|(other, _)| *other == id) {
            Some(&(_, chosen)) if !has_neighbours => Ok(Logprobs {
                chosen,
                near: chosen,
                top: found.top[..report.top.min(found.top.len())].to_vec(),
            }),
            _ => Ok(kernels::logprobs(&self.all()?, id, report)),
        }
    }
}

/// Brings from the device what is `wanted` of each row of `logits` (`[rows, vocab]`, f32).
///
/// # Errors
/// When the device fails.
pub(super) fn fetch_rows(logits: &Tensor, wanted: &[Option<Report>]) -> Result<Vec<Row>> {
    let likeliest = kernels::likeliest(logits, wanted)?;
    let row = |(index, likeliest)| Row {
        likeliest,
        logits: logits.clone(),
        index,
    };
    Ok(likeliest.into_iter().enumerate().map(row).collect())
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
    fn greedy_takes_the_likeliest_token() {
        let mut sampler = Sampler::new(&Sampling::greedy(), None, None);
        let row = last_row(&sampler, &batch(&[LOGITS]));
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

    /// A vocabulary of which the likeliest tokens have only a part of the probability.
    fn broad() -> Tensor {
        let logits: Vec<f32> = (0..700).map(|i| (i as f32 * 0.61).sin() * 2.0).collect();
        Tensor::from_vec(logits, (1, 700), &Device::Cpu).unwrap()
    }

    #[test]
    fn every_token_is_drawn_as_often_as_the_softmax_says() {
        const DRAWS: usize = 20_000;
        let logits = broad().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (temperature, top_k, top_p) in [
            (1.0, None, None),
            (0.3, None, None),
            (4.0, None, Some(0.5)),
            (1.0, Some(200), None),
            (1.0, Some(200), Some(0.8)),
            (0.2, Some(10), Some(0.8)),
        ] {
            let sampling = Sampling {
                temperature,
                top_k,
                top_p,
                ..sampling(3)
            };
            // By the definition, from all tokens in their order.
            let weight = |id: u32| (f64::from(logits[id as usize]) / temperature).exp();
            let mut kept = kernels::likeliest_ids(&logits, top_k.unwrap_or(700));
            let all: f64 = kept.iter().map(|&id| weight(id)).sum();
            let mut sum = 0.0;
            kept.retain(|&id| {
                let before = sum;
                sum += weight(id);
                before < top_p.unwrap_or(1.0) * all
            });
            let all: f64 = kept.iter().map(|&id| weight(id)).sum();

            let mut counts = vec![0_usize; 700];
            for id in draw(&sampling, &broad(), DRAWS) {
                counts[id as usize] += 1;
            }
            let drawn: usize = kept.iter().map(|&id| counts[id as usize]).sum();
            assert_eq!(drawn, DRAWS, "{sampling:?}: others were drawn, too");
            // Pearson's chi-squared, in standard deviations from what chance gives.
            let square = |&id: &u32| {
                let expected = DRAWS as f64 * weight(id) / all;
                (counts[id as usize] as f64 - expected).powi(2) / expected
            };
            let freedom = kept.len() as f64 - 1.0;
            let off = (kept.iter().map(square).sum::<f64>() - freedom) / (2.0 * freedom).sqrt();
            assert!(off.abs() < 4.0, "{sampling:?}: {off}");
        }
    }

    #[test]
    fn a_token_from_beyond_the_likeliest_has_its_log_probability() {
        let mut sampler = Sampler::new(&sampling(1), Some(2), None);
        let row = last_row(&sampler, &broad());
        let all = row.all().unwrap();
        let beyond = kernels::likeliest_ids(&all, 700)[CANDIDATES..].to_vec();
        let drawn = (0..100).map(|_| sampler.choose(&row).unwrap());
        let drawn: Vec<_> = drawn.filter(|it| beyond.contains(&it.id)).collect();
        assert!(!drawn.is_empty());
        let sum: f64 = all.iter().map(|&x| f64::from(x).exp()).sum();
        for SampledToken { id, logprobs } in drawn {
            let logprobs = logprobs.unwrap();
            let right = f64::from(all[id as usize]) - sum.ln();
            assert!((f64::from(logprobs.chosen) - right).abs() < 1e-5);
            assert_eq!(logprobs.top.len(), 2);
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
        let wanted = vec![Some(Report::default()); 3];
        let rows = fetch_rows(&batch(&[LOGITS, broken, infinite]), &wanted).unwrap();
        let finite: Vec<bool> = rows.iter().map(|row| row.likeliest.finite).collect();
        assert_eq!(finite, [true, false, false]);
    }
}
