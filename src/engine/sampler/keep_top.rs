//! Top-k and top-p.

use crate::kernels::likeliest_ids;

/// Sets all probabilities to 0 but those that top-k and, of what that leaves, top-p keep.
///
/// candle's own top-k draws from candidates in no particular order, so that a last bit of
/// difference in the logits would give another token for the same seed. Here the order is always
/// the vocabulary's.
pub fn keep_top(probabilities: &mut [f32], top_k: Option<usize>, top_p: Option<f64>) {
    let most = top_k.unwrap_or(usize::MAX).min(probabilities.len());
    let kept = match top_p {
        None if most == probabilities.len() => return,
        None => likeliest_ids(probabilities, most),
        Some(p) => nucleus(probabilities, most, p),
    };
    let values: Vec<f32> = kept.iter().map(|&id| probabilities[id as usize]).collect();
    probabilities.fill(0.0);
    for (id, value) in kept.into_iter().zip(values) {
        probabilities[id as usize] = value;
    }
}

/// The fewest of the `most` likeliest tokens that have the share `p` of these tokens' probability.
fn nucleus(probabilities: &[f32], most: usize, p: f64) -> Vec<u32> {
    let all: f64 = match most == probabilities.len() {
        true => 1.0,
        false => likeliest_ids(probabilities, most)
            .into_iter()
            .map(|id| f64::from(probabilities[id as usize]))
            .sum(),
    };
    // Nearly always a few tokens are enough; sorting a vocabulary of 257,000 takes 20 ms.
    let mut size = 256.min(most);
    loop {
        let mut ids = likeliest_ids(probabilities, size);
        let mut sum = 0.0;
        let reached = ids.iter().position(|&id| {
            sum += f64::from(probabilities[id as usize]);
            sum >= p * all
        });
        if let Some(last) = reached {
            ids.truncate(last + 1);
            return ids;
        }
        if size == most {
            return ids;
        }
        size = (16 * size).min(most);
    }
}
