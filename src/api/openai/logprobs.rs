//! The probabilities of an answer's tokens, in the two ways in which OpenAI's routes tell them.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::super::response::TokenLogprob;

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
    /// The token's text in UTF-8.
    bytes: Vec<u8>,
}

impl LikelyToken {
    fn new(token: String, logprob: f32) -> Self {
        Self {
            bytes: token.clone().into_bytes(),
            token,
            logprob,
        }
    }
}

impl From<Vec<TokenLogprob>> for ChatLogprobs {
    fn from(tokens: Vec<TokenLogprob>) -> Self {
        let content = tokens.into_iter().map(|token| ChatToken {
            token: LikelyToken::new(token.token, token.logprob),
            top_logprobs: token
                .top
                .into_iter()
                .map(|top| LikelyToken::new(top.token, top.logprob))
                .collect(),
        });
        Self {
            content: content.collect(),
        }
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
    /// Where each token begins in the text, in characters.
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
            *offset += token.token.chars().count();
            told.token_logprobs.push(token.logprob);
            let top = token.top.into_iter();
            told.top_logprobs
                .push(top.map(|top| (top.token, top.logprob)).collect());
            told.tokens.push(token.token);
        }
        told
    }
}
