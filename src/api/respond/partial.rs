//! The part of an answer that has been generated so far.

use super::output_parser::OutputParser;
use super::shapes::{TaskResult, TokenLogprob};
use crate::engine::Summary;

/// The answer to one prompt so far.
#[derive(Debug)]
pub struct PartialAnswer<P> {
    parser: P,
    tokens: Vec<TokenLogprob>,
}

impl<P: OutputParser> PartialAnswer<P> {
    pub fn new(parser: P) -> Self {
        Self {
            parser,
            tokens: Vec::new(),
        }
    }

    /// Appends generated text and its tokens; returns the objects that it completes.
    pub async fn push(&mut self, text: &str, tokens: Vec<TokenLogprob>) -> Vec<P::Object> {
        let objects = self.parser.push(text, &tokens).await;
        self.tokens.extend(tokens);
        objects
    }

    /// The last objects, and the result of the prompt `index`.
    pub async fn into_result(
        self,
        index: usize,
        summary: &Summary,
        logprobs: bool,
    ) -> (Vec<P::Object>, TaskResult<P::Fields>) {
        let (objects, task) = self.parser.finish().await;
        let result = TaskResult {
            index,
            task,
            finish_reason: summary.finish_reason.into(),
            usage: summary.usage.into(),
            logprobs: logprobs.then_some(self.tokens),
        };
        (objects, result)
    }
}
