//! `POST /v1/question`: what might have been asked about an image.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::text_task::{self, TextTask};
use crate::api::error::ApiError;
use crate::api::extract::body::Submission;
use crate::api::extract::language::language;
use crate::api::extract::one_or_many::texts;
use crate::api::extract::task_fields::{ONE_IMAGE, TaskFields};
use crate::api::job::{Prompt, Wording};
use crate::api::openapi::{Events, ImageForm, ImageJson, Problems};
use crate::api::respond::shapes::TaskResponse;
use crate::api::state::AppState;
use crate::tasks::one_line;

/// Fields of a request for questions. Either `answer` or `answers` is required.
#[derive(Debug, Deserialize, ToSchema)]
pub struct QuestionFields {
    /// What the question should be answered with.
    #[schema(pattern = r"\S", example = "2")]
    answer: Option<String>,
    /// Several answers about the same image. In a form, repeat the field.
    #[schema(min_items = 1, max_items = 64)]
    answers: Option<Vec<String>>,
    /// The language of the question, as far as the checkpoint knows it.
    #[schema(
        default = "en",
        pattern = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$",
        example = "en"
    )]
    language: Option<String>,
}

impl TaskFields for QuestionFields {
    const IMAGE_FIELDS: &'static [&'static str] = ONE_IMAGE;
}

/// The question to one answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Question {
    #[schema(example = "how many cows are there?")]
    pub question: String,
}

impl TextTask for QuestionFields {
    const NAME: &'static str = "question";
    type Output = Question;

    fn prompts(self, _images: usize) -> Result<Vec<Prompt>, ApiError> {
        let language = language(self.language)?;
        let answers = texts("answer", self.answer, self.answers)?;
        let prompts = answers.into_iter().map(|(param, answer)| Prompt {
            image: 0,
            wording: Wording::Text(prompt(&answer, &language)),
            param,
        });
        Ok(prompts.collect())
    }

    fn output(question: String) -> Question {
        Question { question }
    }
}

/// Find questions that an answer answers
///
/// One question for each answer, in the order in which they were sent.
#[utoipa::path(
    post,
    path = "/v1/question",
    tag = "tasks",
    request_body(content(
        (ImageJson<QuestionFields> = "application/json"),
        (ImageForm<QuestionFields> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "The questions.", content(
            (TaskResponse<Question> = "application/json"),
            (Events<Question> = "text/event-stream"),
        )),
        Problems,
    ),
    security((), ("key" = [])),
)]
pub async fn question(
    State(state): State<AppState>,
    submission: Submission<QuestionFields>,
) -> Result<Response, ApiError> {
    text_task::run(state, submission).await
}

/// The prompt for a question in `language` that `answer` answers.
fn prompt(answer: &str, language: &str) -> String {
    format!("question {language} {}", one_line(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_has_the_language_then_the_answer() {
        assert_eq!(prompt("two\ncows ", "de"), "question de two cows");
    }
}
