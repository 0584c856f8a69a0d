//! The part of an answer that has been generated so far.

use std::sync::Arc;

use super::output_parser::OutputParser;
use super::shapes::{TaskResult, TokenLogprob};
use crate::engine::{Logprobs, Summary, TokenInfo};
use crate::tokenizer::Tokenizer;

/// The answer to one prompt so far.
pub struct PartialAnswer<P> {
    parser: P,
    tokens: Option<Tokens>,
}

/// The tokens of an answer for its result. They are kept as ids: the texts of the likeliest ones would
/// take several times the memory for as long as the answer takes.
struct Tokens {
    tokenizer: Arc<Tokenizer>,
    ids: Vec<(u32, Logprobs)>,
}

impl<P: OutputParser> PartialAnswer<P> {
    /// An empty answer, whose result tells its tokens if there is a tokenizer for them.
    pub fn new(parser: P, tokenizer: Option<Arc<Tokenizer>>) -> Self {
        let tokens = |tokenizer| Tokens {
            tokenizer,
            ids: Vec::new(),
        };
        Self {
            parser,
            tokens: tokenizer.map(tokens),
        }
    }

    /// Appends generated text and its tokens; returns the objects that it completes.
    pub async fn push(&mut self, text: &str, tokens: Vec<TokenLogprob>) -> Vec<P::Object> {
        let objects = self.parser.push(text, &tokens).await;
        if let Some(kept) = &mut self.tokens {
            kept.ids.extend(tokens.iter().map(ids));
        }
        objects
    }

    /// The last objects, and the result of the prompt `index`.
    pub async fn into_result(
        self,
        index: usize,
        summary: &Summary,
    ) -> (Vec<P::Object>, TaskResult<P::Fields>) {
        let (objects, task) = self.parser.finish().await;
        let result = TaskResult {
            index,
            task,
            finish_reason: summary.finish_reason.into(),
            usage: summary.usage.into(),
            logprobs: self.tokens.map(Tokens::told),
        };
        (objects, result)
    }
}

impl Tokens {
    fn told(self) -> Vec<TokenLogprob> {
        let Self { tokenizer, ids } = self;
        let told = |(id, logprobs)| TokenInfo::new(&tokenizer, id, logprobs).into();
        ids.into_iter().map(told).collect()
    }
}

fn ids(token: &TokenLogprob) -> (u32, Logprobs) {
    let logprobs = Logprobs {
        chosen: token.logprob,
        near: token.near_logprob,
        top: token.top.iter().map(|top| (top.id, top.logprob)).collect(),
    };
    (token.id, logprobs)
}
