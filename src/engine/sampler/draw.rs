//! Draws a token at a temperature, from the likeliest ones and what is known of the others together.
//!
//! A row of logits is a megabyte, and nearly all of the probability is with a few tokens. So a draw
//! takes the likeliest ones in their order, and all others as one candidate more; only when chance
//! chooses that one, or when top-k and top-p need more to say what they keep, is the whole row looked
//! at. A GPU's row then mostly stays where it is.

use candle_core::{Device, Result, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling as Strategy};

use crate::engine::Sampling;
use crate::kernels::likeliest_ids;

/// How many of the likeliest tokens a draw looks at before it asks for the whole row.
pub(super) const CANDIDATES: usize = 64;
/// How many of the whole row's it looks at then: sorting a vocabulary of 257,000 takes 20 ms.
const MORE: usize = 1024;

/// The random numbers of one request, and what it wants of them.
pub(super) struct Draw {
    processor: LogitsProcessor,
    temperature: f64,
    top_k: Option<usize>,
    top_p: Option<f64>,
}

/// The likeliest tokens, likeliest first.
struct Candidates {
    /// Ids, and logits less the highest.
    tokens: Vec<(u32, f64)>,
    /// `exp(logit / temperature)` of all other tokens together; 0 when there are none.
    rest: f64,
}

impl Draw {
    pub(super) fn new(sampling: &Sampling) -> Self {
        let temperature = sampling.temperature;
        let seed = sampling.seed.unwrap_or_else(rand::random);
        Self {
            processor: LogitsProcessor::from_sampling(seed, Strategy::All { temperature }),
            temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
        }
    }

    pub(super) fn temperature(&self) -> f64 {
        self.temperature
    }

    /// Draws one of `vocab` tokens, of which `likeliest` are known by their log-probabilities, `total` is
    /// that of [`crate::kernels::Likeliest`], and `row` has all logits.
    ///
    /// # Errors
    /// Those of `row`.
    pub(super) fn token(
        &mut self,
        likeliest: &[(u32, f32)],
        total: f32,
        vocab: usize,
        row: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<u32> {
        let total = f64::from(total).exp();
        let likeliest = self.candidates(likeliest.to_vec(), vocab, total);
        if let Some((count, rest)) = self.kept(&likeliest) {
            if let Some(id) = self.one_of(&likeliest.tokens[..count], rest)? {
                return Ok(id);
            }
            let mut others = row()?;
            for (id, _) in likeliest.tokens {
                others[id as usize] = f32::NEG_INFINITY;
            }
            return self.processor.sample(&Tensor::new(others, &Device::Cpu)?);
        }
        let row = row()?;
        let mut size = MORE;
        loop {
            let ids = likeliest_ids(&row, size.min(vocab)).into_iter();
            let tokens = ids.map(|id| (id, row[id as usize])).collect();
            let candidates = self.candidates(tokens, vocab, total);
            // Then nothing is left of the rest: top-k and top-p end among the candidates.
            if let Some((count, _)) = self.kept(&candidates)
                && let Some(id) = self.one_of(&candidates.tokens[..count], 0.0)?
            {
                return Ok(id);
            }
            size *= 16;
        }
    }

    /// Of tokens with their logits, whatever these are relative to.
    fn candidates(&self, tokens: Vec<(u32, f32)>, vocab: usize, total: f64) -> Candidates {
        let highest = tokens.first().map_or(0.0, |&(_, logit)| f64::from(logit));
        let below = |(id, logit)| (id, f64::from(logit) - highest);
        let tokens: Vec<_> = tokens.into_iter().map(below).collect();
        let known: f64 = tokens.iter().map(|&(_, logit)| self.weight(logit)).sum();
        let rest = match tokens.len() == vocab {
            true => 0.0,
            false => (total - known).max(0.0),
        };
        Candidates { tokens, rest }
    }

    fn weight(&self, logit: f64) -> f64 {
        (logit / self.temperature).exp()
    }

    /// How many of the candidates top-k and top-p keep, and how much of the rest; `None` when that
    /// takes more candidates.
    fn kept(&self, candidates: &Candidates) -> Option<(usize, f64)> {
        let Candidates { tokens, rest } = candidates;
        let (count, rest) = match self.top_k {
            Some(most) if most <= tokens.len() => (most, 0.0),
            Some(_) if *rest > 0.0 => return None,
            _ => (tokens.len(), *rest),
        };
        let Some(share) = self.top_p.filter(|&share| share < 1.0) else {
            return Some((count, rest));
        };
        let weights = tokens[..count].iter();
        let weights = weights.map(|&(_, logit)| self.weight(logit));
        let all = weights.clone().sum::<f64>() + rest;
        let mut sum = 0.0;
        let reached = weights.into_iter().position(|weight| {
            sum += weight;
            sum >= share * all
        });
        match reached {
            Some(last) => Some((last + 1, 0.0)),
            None if rest > 0.0 => None,
            None => Some((count, 0.0)),
        }
    }

    /// Draws one of these tokens; `None` is the rest.
    ///
    /// They stand in the order of the vocabulary: in that of their probabilities, a last bit of
    /// difference in the logits would give another token for the same seed.
    fn one_of(&mut self, tokens: &[(u32, f64)], rest: f64) -> Result<Option<u32>> {
        let mut tokens = tokens.to_vec();
        tokens.sort_unstable_by_key(|&(id, _)| id);
        let mut logits: Vec<f32> = tokens.iter().map(|&(_, logit)| logit as f32).collect();
        if rest > 0.0 {
            logits.push((rest.ln() * self.temperature) as f32);
        }
        let index = self.processor.sample(&Tensor::new(logits, &Device::Cpu)?)?;
        Ok(tokens.get(index as usize).map(|&(id, _)| id))
    }
}
