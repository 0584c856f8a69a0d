//! What a task makes of an answer, while it is being written.

use std::future::{Future, ready};

use serde::Serialize;

use super::response::TokenLogprob;

/// Reads the answer to one prompt.
pub trait AnswerReader: Send + 'static {
    /// A part of the answer that is complete before the rest is.
    type Object: Serialize + Send;
    /// The task's fields of a result.
    type Fields: Serialize + Send + 'static;

    /// Takes the next text, and the tokens that it is made of when the task asked for their
    /// probabilities; gives the objects that it completes.
    fn push(
        &mut self,
        text: &str,
        tokens: &[TokenLogprob],
    ) -> impl Future<Output = Vec<Self::Object>> + Send;

    /// The answer is complete: gives the objects that it completes, and the fields.
    fn finish(self) -> impl Future<Output = (Vec<Self::Object>, Self::Fields)> + Send;
}

/// Reads an answer that is a text and nothing more.
pub struct Text<F> {
    text: String,
    fields: F,
}

/// A text has no objects.
#[derive(Debug, Serialize)]
pub enum NoObject {}

/// A reader for each prompt, which makes `fields` of the whole text.
pub fn text<T>(fields: fn(String) -> T) -> impl FnMut(usize) -> Text<fn(String) -> T> {
    move |_| Text {
        text: String::new(),
        fields,
    }
}

impl<T: Serialize + Send + 'static> AnswerReader for Text<fn(String) -> T> {
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
