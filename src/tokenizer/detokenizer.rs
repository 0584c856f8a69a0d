//! Tokens to text, piece by piece.

use super::Tokenizer;

/// Turns tokens into text as they come; the pieces add up to exactly what the tokenizer makes of
/// all tokens together.
///
/// Gemma's decoder looks at one token alone, but for a run of byte tokens (`<0xE2>`): the run is
/// decoded as a whole, and every byte of it becomes U+FFFD if the whole isn't valid UTF-8. So a
/// run is held back until another token ends it. Special tokens have no text and are taken out
/// before runs are joined, so they don't end one.
#[derive(Debug, Default)]
pub(crate) struct Detokenizer {
    run: Vec<u32>,
}

impl Detokenizer {
    /// Adds one token; returns the text that is now certain, which may be empty.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
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
    pub(crate) fn finish(&mut self, tokenizer: &Tokenizer) -> String {
        if self.run.is_empty() {
            return String::new();
        }
        tokenizer.decode(&std::mem::take(&mut self.run))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, LazyLock};

    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::Checkpoint;

    /// A small tokenizer that decodes as Gemma's does.
    static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/model/pg1-hub");
        Arc::new(Tokenizer::open(&Checkpoint::open(&folder).unwrap(), Vec::new()).unwrap())
    });

    fn pieces(ids: &[u32]) -> Vec<String> {
        let mut detokenizer = Detokenizer::default();
        let mut pieces: Vec<String> = ids
            .iter()
            .map(|&id| detokenizer.push(&TOKENIZER, id))
            .collect();
        pieces.push(detokenizer.finish(&TOKENIZER));
        pieces
    }

    fn byte(byte: u8) -> u32 {
        let all = 0..TOKENIZER.vocab_size() as u32;
        let bytes: Vec<u32> = all.filter(|&id| TOKENIZER.is_byte(id)).collect();
        assert_eq!(bytes.len(), 256, "they are in the order of their values");
        bytes[usize::from(byte)]
    }

    #[test]
    fn a_run_of_bytes_comes_out_whole_once_it_is_over() {
        let ids: Vec<u32> = "☃".bytes().map(byte).chain([400]).collect();
        let pieces = pieces(&ids);
        assert_eq!(pieces[..2], ["", ""]);
        assert!(
            pieces[3].starts_with('☃') && pieces[3].len() > 3,
            "{pieces:?}"
        );
    }

    #[test]
    fn the_bytes_of_a_broken_run_come_out_as_the_tokenizer_has_it() {
        let ids: Vec<u32> = "☃".bytes().take(2).map(byte).collect();
        assert_eq!(pieces(&ids), ["", "", "\u{fffd}\u{fffd}"]);
    }

    proptest! {
        #[test]
        fn the_pieces_add_up_to_exactly_the_whole_text(
            ids in prop::collection::vec(
                // Special tokens, bytes, ASCII and other tokens, in long and short runs.
                prop_oneof![0..20u32, 0..300u32, any::<char>().prop_map(|c| c as u32 % 1962)],
                0..40,
            ),
            text in "\\PC{0,8}",
        ) {
            let text: Vec<u32> = text.bytes().map(byte).collect();
            let ids = [ids, text].concat();
            prop_assert_eq!(pieces(&ids).concat(), TOKENIZER.decode(&ids));
        }
    }
}
