//! Parsers of generated text: what a task makes of the model's output while it is being written.

use std::future::{Future, ready};

use serde::Serialize;

use super::shapes::TokenLogprob;

/// Parses the output for one prompt.
pub trait OutputParser: Send + 'static {
    /// A part of the answer that is complete before the rest is.
    type Object: Serialize + Send;
    /// The task's fields of a result.
    type Fields: Serialize + Send + 'static;

    /// Takes the next text, and its tokens if the task asked for their probabilities; returns the
    /// objects that it completes.
    fn push(
        &mut self,
        text: &str,
        tokens: &[TokenLogprob],
    ) -> impl Future<Output = Vec<Self::Object>> + Send;

    /// Ends the output; returns the objects that this completes, and the result's fields.
    fn finish(self) -> impl Future<Output = (Vec<Self::Object>, Self::Fields)> + Send;
}

/// Keeps the output as it is: one text.
pub struct Text<F> {
    text: String,
    fields: F,
}

/// The object of tasks that have none.
#[derive(Debug, Serialize)]
pub enum NoObject {}

/// Makes a parser for each prompt, which turns the whole text into `fields`.
pub fn text<T>(fields: fn(String) -> T) -> impl FnMut(usize) -> Text<fn(String) -> T> {
    move |_| Text {
        text: String::new(),
        fields,
    }
}

impl<T: Serialize + Send + 'static> OutputParser for Text<fn(String) -> T> {
    type Object = NoObject;
    type Fields = T;

    fn push(
        &mut self,
        text: &str,
        _: &[TokenLogprob],
    ) -> impl Future<Output = Vec<NoObject>> + Send {
        self.text.push_str(text);
        ready(Vec::new())
    }

    fn finish(self) -> impl Future<Output = (Vec<NoObject>, T)> + Send {
        ready((Vec::new(), (self.fields)(self.text)))
    }
}
