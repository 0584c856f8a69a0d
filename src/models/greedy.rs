//! Greedy answers straight from a model, without the engine: for comparisons.

use candle_core::{Result, bail};

use super::{Budget, DecodeRow, Model, Picture, Prefix};
use crate::kernels::likeliest;

/// A budget for a whole stage in one step.
pub const EVERYTHING: Budget = Budget {
    token_layers: usize::MAX,
};

/// One picture and prompt.
#[derive(Debug, Clone)]
pub struct Question {
    /// RGB bytes at the model's resolution.
    pub pixels: Vec<u8>,
    /// Token ids from `<bos>` to the final newline.
    pub prompt: Vec<u32>,
}

/// What a model answers to some questions, in their order.
#[derive(Debug, Clone)]
pub struct Answers {
    /// The first step's logits of each question.
    pub first_logits: Vec<Vec<f32>>,
    /// The tokens that the model would choose.
    pub tokens: Vec<Vec<u32>>,
}

/// Answers all questions together, `steps` tokens each. After each token it goes on with that of
/// `forced`, so that one different choice is counted only once, or else with its own.
///
/// # Errors
/// When the model fails.
pub fn greedy<M: Model>(
    model: &M,
    questions: &[Question],
    steps: usize,
    forced: Option<&[Vec<u32>]>,
) -> Result<Answers> {
    let images: Vec<Picture<'_>> = questions
        .iter()
        .map(|question| Picture::from(question.pixels.as_slice()))
        .collect();
    let mut encode = model.begin_encode(&images)?;
    model.advance_encode(&mut encode, EVERYTHING)?;
    let features = model.finish_encode(encode)?;
    let prefixes: Vec<Prefix<'_>> = questions
        .iter()
        .zip(&features)
        .enumerate()
        .map(|(slot, (question, features))| Prefix {
            slot,
            adapter: None,
            features,
            tokens: &question.prompt,
            generated: &[],
        })
        .collect();
    let length = |question: &Question| model.image_tokens() + question.prompt.len();
    let context = questions.iter().map(length).max().unwrap_or(0) + steps;
    let mut cache = model.new_cache(questions.len(), context)?;
    let mut prefill = model.begin_prefill(&prefixes)?;
    let output = model.step(&mut cache, Some((&mut prefill, EVERYTHING)), &[])?;
    let Some(logits) = output.logits else {
        bail!("a whole prefill gives logits")
    };
    let reports = vec![None; questions.len()];
    let mut tokens: Vec<Vec<u32>> = likeliest(&logits, &reports)?
        .into_iter()
        .map(|row| vec![row.id])
        .collect();
    for step in 1..steps {
        let rows: Vec<DecodeRow> = questions
            .iter()
            .enumerate()
            .map(|(slot, question)| DecodeRow {
                slot,
                position: length(question) + step - 1,
                token: forced.unwrap_or(&tokens)[slot][step - 1],
                adapter: None,
            })
            .collect();
        let output = model.step(&mut cache, None, &rows)?;
        let Some(logits) = output.logits else {
            bail!("a decode step gives logits")
        };
        let chosen = likeliest(&logits, &reports)?;
        for (tokens, row) in tokens.iter_mut().zip(chosen) {
            tokens.push(row.id);
        }
    }
    Ok(Answers {
        first_logits: logits.to_vec2()?,
        tokens,
    })
}

/// A picture of slanted colour waves, `side × side`, different for each `index`.
pub fn waves(side: usize, index: usize) -> Vec<u8> {
    let wave = |x: usize, y: usize, channel: usize| {
        let phase = (x * (index + 2) + y * (channel + 1)) as f32 / side as f32;
        (127.5 + 127.5 * (phase * 6.0).sin()) as u8
    };
    (0..side * side * 3)
        .map(|i| wave(i / 3 % side, i / 3 / side, i % 3))
        .collect()
}
