//! `POST /v1/vqa`: answers to one or several questions about an image.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::AppState;
use super::super::answer::answer;
use super::super::body::{ONE_IMAGE, Submission, TaskFields};
use super::super::error::{ApiError, ErrorCode};
use super::super::job::{Job, Prompt, Task};
use super::super::openapi::{Events, ImageForm, ImageJson, Problems};
use super::super::reader::text;
use super::super::response::Answer;
use super::language;
use crate::tasks::vqa::prompt;

/// The most questions in one request.
const MAX_QUESTIONS: usize = 64;

/// Fields of a question request. Either `question` or `questions` is required.
#[derive(Debug, Deserialize, ToSchema)]
pub struct VqaFields {
    #[schema(example = "Where is the cow standing?")]
    question: Option<String>,
    /// Several questions about the same image. In a form, repeat the field.
    #[schema(max_items = 64)]
    questions: Option<Vec<String>>,
    /// The language of the answer, as far as the checkpoint knows it.
    #[schema(default = "en", example = "en")]
    language: Option<String>,
}

impl TaskFields for VqaFields {
    const IMAGE_FIELDS: &'static [&'static str] = ONE_IMAGE;
}

/// The answer to one question.
#[derive(Debug, Serialize, ToSchema)]
pub struct VqaAnswer {
    #[schema(example = "beach")]
    pub answer: String,
}

/// A stream, for the contract.
const STREAM: &str = r#"event: delta
data: {"index":0,"text":"beach"}

event: result
data: {"index":0,"answer":"beach","finish_reason":"stop","usage":{"image_tokens":256,"prompt_tokens":4,"completion_tokens":4}}

event: done
data: {"id":"vqa-5f0c6a52f1f94f8e9c1d3f6f0a9b7e21","object":"vqa","created":1767225600,"model":"paligemma2-3b-mix-224","usage":{"image_tokens":256,"prompt_tokens":4,"completion_tokens":4},"timings":{"queue_ms":0.2,"vision_ms":41.0,"prefill_ms":63.5,"decode_ms":120.8,"total_ms":231.7}}

"#;

/// Answer questions about an image
///
/// One answer for each question, in the order in which they were sent. The image is worked on once.
#[utoipa::path(
    post,
    path = "/v1/vqa",
    tag = "tasks",
    request_body(content(
        (ImageJson<VqaFields> = "application/json"),
        (ImageForm<VqaFields> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "The answers.", content(
            (Answer<VqaAnswer> = "application/json"),
            (Events<VqaAnswer> = "text/event-stream", example = json!(STREAM)),
        )),
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn vqa(
    State(state): State<AppState>,
    Submission { task, common }: Submission<VqaFields>,
) -> Result<Response, ApiError> {
    let language = language(task.language)?;
    let questions = questions(task.question, task.questions)?;
    let prompts = questions.into_iter().map(|(param, question)| Prompt {
        image: 0,
        text: prompt(&question, &language),
        param,
    });
    let task = Task {
        name: "vqa",
        prompts: prompts.collect(),
        needs_probabilities: false,
    };
    let job = Job::start(&state, task, common).await?;
    answer(job, text(|answer| VqaAnswer { answer })).await
}

/// The questions, each with the name of its field.
fn questions(
    question: Option<String>,
    questions: Option<Vec<String>>,
) -> Result<Vec<(String, String)>, ApiError> {
    let asked: Vec<_> = match (question, questions) {
        (Some(question), None) => vec![("question".to_owned(), question)],
        (None, Some(questions)) => questions
            .into_iter()
            .enumerate()
            .map(|(index, question)| (format!("questions[{index}]"), question))
            .collect(),
        (None, None) => {
            let detail = "a question is required: `question`, or a list in `questions`";
            return Err(ApiError::new(ErrorCode::MissingField, detail).param("question"));
        }
        (Some(_), Some(_)) => {
            let detail = "`question` and `questions` were both sent; send one of them";
            return Err(ApiError::new(ErrorCode::RepeatedField, detail).param("questions"));
        }
    };
    if !(1..=MAX_QUESTIONS).contains(&asked.len()) {
        let allowed = format!("1 to {MAX_QUESTIONS} questions");
        let count = format!("a list of {}", asked.len());
        return Err(ApiError::out_of_range("questions", count, &allowed));
    }
    match asked
        .iter()
        .find(|(_, question)| question.trim().is_empty())
    {
        Some((param, _)) => Err(ApiError::out_of_range(param, "empty", "a text")),
        None => Ok(asked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_keep_their_order_and_know_their_field() {
        let asked = questions(None, Some(vec!["a?".into(), "b?".into()])).unwrap();
        let expected = [("questions[0]", "a?"), ("questions[1]", "b?")];
        assert_eq!(
            asked,
            expected.map(|(param, text)| (param.into(), text.into()))
        );
    }

    #[test]
    fn no_empty_and_ambiguous_questions_are_refused() {
        let list = |texts: &[&str]| Some(texts.iter().map(ToString::to_string).collect());
        for (question, several, code, param) in [
            (None, None, ErrorCode::MissingField, "question"),
            (
                Some("a?"),
                list(&["b?"]),
                ErrorCode::RepeatedField,
                "questions",
            ),
            (Some(" \n"), None, ErrorCode::OutOfRange, "question"),
            (
                None,
                list(&["a?", ""]),
                ErrorCode::OutOfRange,
                "questions[1]",
            ),
            (None, list(&[]), ErrorCode::OutOfRange, "questions"),
            (None, list(&["?"; 65]), ErrorCode::OutOfRange, "questions"),
        ] {
            let error = questions(question.map(str::to_owned), several).unwrap_err();
            assert_eq!((error.code, error.param.as_deref()), (code, Some(param)));
        }
    }
}
