//! Parses the model's output for `detect` and `segment`.
//!
//! The model writes `<locY0><locX0><locY1><locX1> label ; …`, where a bin is a 1023rd of the height
//! or width, and 16 `<seg>` codes of a mask before the label when it segments. Some fine-tunes leave
//! out the label. Models also write too few bins, empty boxes, and words around them: what is well
//! formed is kept, and the rest is reported in `dropped`.

mod lexemes;
#[cfg(test)]
mod tests;

use std::mem;

use self::lexemes::{Lexeme, Lexemes, held_back};
use super::detection::{CODES, Detection, DropReason, Dropped};
use crate::engine::TokenInfo;

/// A finished piece of the output.
pub type Piece = Result<Detection, Dropped>;

/// Parses the output while it is being written.
#[derive(Debug)]
pub struct DetectionParser {
    /// Whether an object has to have a mask.
    masks: bool,
    /// The beginning of a coordinate whose end has not come yet.
    held: String,
    /// Probabilities of tokens whose text has not come yet.
    pending: Vec<TokenProbability>,
    draft: Draft,
}

/// How likely the model held a token, as natural logarithms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenProbability {
    /// Of the token.
    pub logprob: f32,
    /// Of the token and, if it is a bin, those near it.
    pub near_logprob: f32,
}

impl From<&TokenInfo> for TokenProbability {
    fn from(token: &TokenInfo) -> Self {
        Self {
            logprob: token.logprob,
            near_logprob: token.near_logprob,
        }
    }
}

/// A piece whose end has not come yet.
#[derive(Debug, Default)]
struct Draft {
    text: String,
    bins: Vec<u16>,
    codes: Vec<u8>,
    label: String,
    box_tokens: Vec<TokenProbability>,
    label_tokens: Vec<TokenProbability>,
}

impl DetectionParser {
    /// For the output of `detect`, or with `masks` of `segment`.
    pub fn new(masks: bool) -> Self {
        Self {
            masks,
            held: String::new(),
            pending: Vec::new(),
            draft: Draft::default(),
        }
    }

    /// Takes the next text and the probabilities of its tokens; returns the pieces that it completes.
    pub fn push(&mut self, text: &str, tokens: &[TokenProbability]) -> Vec<Piece> {
        let mut text = mem::take(&mut self.held) + text;
        self.held = text.split_off(text.len() - held_back(&text));
        self.pending.extend_from_slice(tokens);
        self.read(&text)
    }

    /// Ends the output; returns the pieces that this completes.
    pub fn finish(&mut self) -> Vec<Piece> {
        let held = mem::take(&mut self.held);
        let mut pieces = self.read(&held);
        pieces.extend(mem::take(&mut self.draft).close(self.masks));
        pieces
    }

    fn read(&mut self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (lexeme, written) in Lexemes(text) {
            if self.draft.ends_before(lexeme) {
                pieces.extend(mem::take(&mut self.draft).close(self.masks));
            }
            match lexeme {
                Lexeme::Bin(_) => self.draft.box_tokens.append(&mut self.pending),
                Lexeme::Text(text) if !text.trim().is_empty() => {
                    self.draft.label_tokens.append(&mut self.pending);
                }
                // They do not count in the score.
                Lexeme::Text(_) | Lexeme::Code(_) | Lexeme::Separator => {}
            }
            self.draft.add(lexeme, written);
        }
        if !text.is_empty() {
            self.pending.clear();
        }
        pieces
    }
}

impl Draft {
    fn has_label(&self) -> bool {
        !self.label.trim().is_empty()
    }

    /// Whether this lexeme belongs to the next piece.
    fn ends_before(&self, lexeme: Lexeme) -> bool {
        match lexeme {
            Lexeme::Separator => true,
            Lexeme::Bin(_) => self.bins.len() == 4 || !self.codes.is_empty() || self.has_label(),
            Lexeme::Code(_) => self.codes.len() == CODES || self.has_label(),
            Lexeme::Text(_) => false,
        }
    }

    fn add(&mut self, lexeme: Lexeme, written: &str) {
        match lexeme {
            Lexeme::Separator => return,
            Lexeme::Bin(bin) => self.bins.push(bin),
            Lexeme::Code(code) => self.codes.push(code),
            Lexeme::Text(text) => self.label.push_str(text),
        }
        self.text.push_str(written);
    }

    /// The finished piece; `None` if it is blank.
    fn close(self, masks: bool) -> Option<Piece> {
        let text = self.text.trim();
        if text.is_empty() {
            return None;
        }
        let dropped = |reason| {
            let text = text.to_owned();
            Some(Err(Dropped { reason, text }))
        };
        let Ok(bins @ [y0, x0, y1, x1]) = <[u16; 4]>::try_from(self.bins.as_slice()) else {
            return dropped(match self.bins.is_empty() {
                true => DropReason::NoBox,
                false => DropReason::IncompleteBox,
            });
        };
        if y1 <= y0 || x1 <= x0 {
            return dropped(DropReason::EmptyBox);
        }
        let codes = match self.codes.len() {
            0 if masks => return dropped(DropReason::NoMask),
            0 => None,
            CODES => self.codes.try_into().ok(),
            _ => return dropped(DropReason::IncompleteMask),
        };
        let (edges, label) = (&self.box_tokens, &self.label_tokens);
        let sure = mean(edges.iter().map(|token| token.near_logprob))
            + mean(label.iter().map(|token| token.near_logprob));
        Some(Ok(Detection {
            label: self.label.trim().to_owned(),
            bins,
            codes,
            score: sure.exp(),
            logprob: mean(edges.iter().chain(label).map(|token| token.logprob)),
        }))
    }
}

/// The mean; of nothing, 0.
fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / count.max(1) as f32
}
