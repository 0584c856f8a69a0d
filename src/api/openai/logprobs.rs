//! The probabilities of an answer's tokens, in the two ways in which OpenAI's routes tell them.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::respond::shapes::{TokenLogprob, TopToken};

/// As `/v1/chat/completions` tells them.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatLogprobs {
    content: Vec<ChatToken>,
}

/// A token of an answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatToken {
    #[serde(flatten)]
    token: LikelyToken,
    top_logprobs: Vec<LikelyToken>,
}

/// A token and its probability.
#[derive(Debug, Serialize, ToSchema)]
pub struct LikelyToken {
    token: String,
    /// Natural logarithm of its probability at temperature 1.
    logprob: f32,
    /// The token's text in UTF-8. Characters outside of the vocabulary are several tokens: put
    /// their bytes together.
    bytes: Vec<u8>,
}

impl From<Vec<TokenLogprob>> for ChatLogprobs {
    fn from(tokens: Vec<TokenLogprob>) -> Self {
        let content = tokens.into_iter().map(|token| ChatToken {
            token: LikelyToken {
                token: token.token,
                logprob: token.logprob,
                bytes: token.bytes,
            },
            top_logprobs: token.top.into_iter().map(likely).collect(),
        });
        Self {
            content: content.collect(),
        }
    }
}

fn likely(top: TopToken) -> LikelyToken {
    LikelyToken {
        token: top.token,
        logprob: top.logprob,
        bytes: top.bytes,
    }
}

/// As `/v1/completions` tells them.
#[derive(Debug, Serialize, ToSchema)]
pub struct CompletionLogprobs {
    tokens: Vec<String>,
    /// Natural logarithms of the tokens' probabilities at temperature 1.
    token_logprobs: Vec<f32>,
    /// For each token the likeliest ones at its place.
    top_logprobs: Vec<BTreeMap<String, f32>>,
    /// Where each token begins in the text: how many characters begin before it.
    text_offset: Vec<usize>,
}

impl CompletionLogprobs {
    /// Of `tokens`, before which `offset` characters were written; moves it on.
    pub fn new(tokens: Vec<TokenLogprob>, offset: &mut usize) -> Self {
        let mut told = Self {
            tokens: Vec::new(),
            token_logprobs: Vec::new(),
            top_logprobs: Vec::new(),
            text_offset: Vec::new(),
        };
        for token in tokens {
            told.text_offset.push(*offset);
            *offset += characters_begun(&token.bytes);
            told.token_logprobs.push(token.logprob);
            let top = token.top.into_iter();
            told.top_logprobs
                .push(top.map(|top| (top.token, top.logprob)).collect());
            told.tokens.push(token.token);
        }
        told
    }
}

/// How many characters begin in these bytes of a text in UTF-8.
fn characters_begun(bytes: &[u8]) -> usize {
    let continues = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    bytes.iter().filter(|byte| !continues(byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(token: &str, bytes: &[u8]) -> TokenLogprob {
        TokenLogprob {
            id: 0,
            token: token.to_owned(),
            bytes: bytes.to_owned(),
            logprob: 0.0,
            near_logprob: 0.0,
            top: Vec::new(),
        }
    }

    #[test]
    fn a_character_of_several_tokens_is_sent_as_bytes_and_counted_once() {
        let snowman = "\u{2603}".bytes();
        let mut tokens: Vec<_> = snowman.map(|byte| token("\u{fffd}", &[byte])).collect();
        tokens.push(token("!", b"!"));

        let mut offset = 5;
        let told = CompletionLogprobs::new(tokens.clone(), &mut offset);
        assert_eq!(told.text_offset, [5, 6, 6, 6]);
        assert_eq!(offset, 7);

        let told = ChatLogprobs::from(tokens).content;
        let bytes: Vec<u8> = told.into_iter().flat_map(|told| told.token.bytes).collect();
        assert_eq!(bytes, "\u{2603}!".as_bytes());
    }
}
