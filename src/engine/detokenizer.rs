//! Tokens to text, piece by piece.

use crate::checkpoint::Tokenizer;

/// Turns tokens into text as they come; the pieces add up to exactly what the tokenizer makes of
/// all tokens together.
///
/// Gemma's decoder looks at one token alone, but for a run of byte tokens (`<0xE2>`): the run is
/// decoded as a whole, and every byte of it becomes U+FFFD if the whole isn't valid UTF-8. So a
/// run is held back until another token ends it. Special tokens have no text and are taken out
/// before runs are joined, so they don't end one.
#[derive(Debug, Default)]
pub(super) struct Detokenizer {
    run: Vec<u32>,
}

impl Detokenizer {
    /// Adds one token; returns the text that is now certain, which may be empty.
    pub(super) fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        if tokenizer.is_byte(id) {
            self.run.push(id);
            return String::new();
        }
        let text = tokenizer.decode(&[id]);
        if self.run.is_empty() || text.is_empty() {
            return text;
        }
        self.finish(tokenizer) + &text
    }

    /// The text of what was held back, once no more tokens can follow.
    pub(super) fn finish(&mut self, tokenizer: &Tokenizer) -> String {
        if self.run.is_empty() {
            return String::new();
        }
        tokenizer.decode(&std::mem::take(&mut self.run))
    }
}
