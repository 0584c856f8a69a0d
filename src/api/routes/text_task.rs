//! What all tasks share whose answer is a text: one prompt per question or image, one text back.

use axum::response::Response;
use serde::Serialize;

use crate::api::error::ApiError;
use crate::api::extract::body::Submission;
use crate::api::extract::task_fields::TaskFields;
use crate::api::job::{Job, Prompt, Task};
use crate::api::respond::answer;
use crate::api::respond::output_parser::text;
use crate::api::state::AppState;

/// A task whose answer is a text; implemented by its fields.
pub trait TextTask: TaskFields {
    /// What answers bear as `object`.
    const NAME: &'static str;
    /// The task's fields of a result.
    type Output: Serialize + Send + 'static;

    /// The prompts for a request with that many images.
    ///
    /// # Errors
    /// The first field that is out of range.
    fn prompts(self, images: usize) -> Result<Vec<Prompt>, ApiError>;

    /// The fields of a result from the whole text.
    fn output(text: String) -> Self::Output;
}

/// Answers a request for `T`.
///
/// # Errors
/// Whatever fails before anything was sent.
pub async fn run<T: TextTask>(
    state: AppState,
    Submission { task, common }: Submission<T>,
) -> Result<Response, ApiError> {
    let task = Task {
        name: T::NAME,
        prompts: task.prompts(common.images.len())?,
        needs_probabilities: false,
    };
    let job = Job::start(&state, task, common).await?;
    answer(job, text(T::output)).await
}
