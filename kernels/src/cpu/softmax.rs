//! From raw scores to weights.

use super::gelu::exp;
use super::lanes::fold;
use crate::Scoring;

/// Raw scores to weights that add up to 1; -∞ in `mask` hides a key.
#[inline(always)]
pub fn softmax(scores: &mut [f32], mask: Option<&[f32]>, scoring: Scoring) {
    // As the reference does it, which computes in f32.
    match scoring.softcap {
        Some(cap) => {
            let (scale, cap) = ((scoring.scale / cap) as f32, cap as f32);
            for score in scores.iter_mut() {
                *score = cap * tanh(*score * scale);
            }
        }
        None => {
            let scale = scoring.scale as f32;
            for score in scores.iter_mut() {
                *score *= scale;
            }
        }
    }
    if let Some(mask) = mask {
        for (score, mask) in scores.iter_mut().zip(mask) {
            *score += mask;
        }
    }
    let larger = |a, b| if b > a { b } else { a };
    let largest = fold(scores, f32::NEG_INFINITY, larger, larger);
    for score in scores.iter_mut() {
        let x = *score - largest;
        // A key that is hidden counts for nothing.
        *score = if x < -87.0 { 0.0 } else { exp(x) };
    }
    let add = |a, b| a + b;
    let factor = 1.0 / fold(scores, 0.0, add, add);
    for score in scores.iter_mut() {
        *score *= factor;
    }
}

/// `tanh x` within 2e-7.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}
