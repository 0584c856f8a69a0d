//! The likeliest tokens of a row: for top-k, top-p and log-probabilities.

use std::cmp::Ordering;

/// The `count` likeliest tokens, likeliest first; of equally likely ones the lower id.
pub fn likeliest(logits: &[f32], count: usize) -> Vec<u32> {
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

/// Sets all probabilities to 0 but those that top-k and, of what that leaves, top-p keep.
///
/// candle's own top-k draws from candidates in no particular order, so that a last bit of
/// difference in the logits would give another token for the same seed. Here the order is always
/// the vocabulary's.
pub fn keep_top(probabilities: &mut [f32], top_k: Option<usize>, top_p: Option<f64>) {
    let most = top_k.unwrap_or(usize::MAX).min(probabilities.len());
    let kept = match top_p {
        None if most == probabilities.len() => return,
        None => likeliest(probabilities, most),
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
        false => likeliest(probabilities, most)
            .into_iter()
            .map(|id| f64::from(probabilities[id as usize]))
            .sum(),
    };
    // Nearly always a few tokens are enough; sorting a vocabulary of 257,000 takes 20 ms.
    let mut size = 256.min(most);
    loop {
        let mut ids = likeliest(probabilities, size);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_id_and_no_more_than_all_tokens_are_given() {
        assert_eq!(likeliest(&[0.0, 3.0, 1.0, 2.0, -1.0], 9), [1, 3, 2, 0, 4]);
        assert_eq!(likeliest(&[1.0, 1.0, 1.0], 2), [0, 1]);
        assert!(likeliest(&[1.0], 0).is_empty());
    }
}
