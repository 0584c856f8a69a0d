//! The flags that say what to ask, for `ask` and `annotate`: a task, and what the task needs.

use clap::ValueEnum;
use paligemma_server::settings::TaskName;
use paligemma_server::tasks::caption::Length;
use paligemma_server::tasks::{DEFAULT_LANGUAGE, caption, detection, is_language_code, ocr, vqa};

use super::exit::UsageError;

/// Whether the task's answers are objects.
pub fn has_objects(task: TaskName) -> bool {
    OBJECT_TASKS.contains(&task)
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LengthName {
    Short,
    Normal,
    Detailed,
}

/// What a task needs beside the picture. Each flag belongs to some tasks.
#[derive(Debug, Clone, clap::Args)]
pub struct TaskFlags {
    /// For vqa: the question.
    #[arg(long, value_name = "TEXT")]
    question: Option<String>,
    /// For detect and segment: what to look for; may be repeated.
    #[arg(long = "object", value_name = "NAME")]
    objects: Vec<String>,
    /// For detect and segment: leave out objects whose score is lower, from 0 to 1; default 0.
    #[arg(long, value_name = "SCORE", value_parser = score, allow_negative_numbers = true)]
    min_score: Option<f32>,
    /// For caption: how much it says; default normal.
    #[arg(long, value_enum)]
    length: Option<LengthName>,
    /// For caption and vqa: the language of the answer, such as en or de; default en.
    #[arg(long, value_name = "CODE")]
    language: Option<String>,
}

const OBJECT_TASKS: &[TaskName] = &[TaskName::Detect, TaskName::Segment];

fn score(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(score) if (0.0..=1.0).contains(&score) => Ok(score),
        _ => Err("allowed are numbers from 0 to 1".to_owned()),
    }
}

impl TaskFlags {
    /// The task's prompt.
    ///
    /// # Errors
    /// When a flag that the task needs is missing, or one is wrong or belongs to another task.
    pub fn prompt(&self, task: TaskName) -> Result<String, UsageError> {
        self.refuse_others(Some(task))?;
        let language = self.language.as_deref().unwrap_or(DEFAULT_LANGUAGE);
        if !is_language_code(language) {
            return Err(UsageError(format!(
                "--language is {language:?}; allowed are language codes such as en"
            )));
        }
        Ok(match task {
            TaskName::Caption => caption::prompt(self.length(), language),
            TaskName::Vqa => vqa::prompt(self.question()?, language),
            TaskName::Detect | TaskName::Segment => {
                detection::prompt(&task.to_string(), &self.names()?)
            }
            TaskName::Ocr => ocr::PROMPT.to_owned(),
        })
    }

    /// Refuses flags that don't belong to `task`; without a task, all of them.
    pub fn refuse_others(&self, task: Option<TaskName>) -> Result<(), UsageError> {
        for (flag, sent, tasks) in [
            ("question", self.question.is_some(), &[TaskName::Vqa][..]),
            ("object", !self.objects.is_empty(), OBJECT_TASKS),
            ("min-score", self.min_score.is_some(), OBJECT_TASKS),
            ("length", self.length.is_some(), &[TaskName::Caption]),
            (
                "language",
                self.language.is_some(),
                &[TaskName::Caption, TaskName::Vqa],
            ),
        ] {
            if sent && !task.is_some_and(|task| tasks.contains(&task)) {
                let tasks: Vec<_> = tasks.iter().map(TaskName::to_string).collect();
                return Err(UsageError(format!(
                    "--{flag} is for --task {}",
                    tasks.join(" and ")
                )));
            }
        }
        Ok(())
    }

    /// Objects with a lower score are left out.
    pub fn min_score(&self) -> f32 {
        self.min_score.unwrap_or_default()
    }

    fn length(&self) -> Length {
        match self.length {
            Some(LengthName::Short) => Length::Short,
            None | Some(LengthName::Normal) => Length::Normal,
            Some(LengthName::Detailed) => Length::Detailed,
        }
    }

    fn question(&self) -> Result<&str, UsageError> {
        match self.question.as_deref() {
            None => Err(UsageError(
                "--task vqa needs --question, such as --question \"what color is the car?\""
                    .to_owned(),
            )),
            Some(question) if question.trim().is_empty() => {
                Err(UsageError("--question is empty".to_owned()))
            }
            Some(question) => Ok(question),
        }
    }

    /// What detect and segment look for.
    ///
    /// # Errors
    /// When there is none, or one is wrong.
    pub fn names(&self) -> Result<Vec<String>, UsageError> {
        if self.objects.is_empty() {
            return Err(UsageError(
                "--task detect and segment need --object, such as --object car".to_owned(),
            ));
        }
        let names = self.objects.iter().map(|object| {
            detection::name(object)
                .map_err(|reason| UsageError(format!("--object {object:?} {reason}")))
        });
        names.collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[arg(long, value_enum)]
        task: TaskName,
        #[command(flatten)]
        flags: TaskFlags,
    }

    fn prompt(line: &str) -> Result<String, String> {
        let words = line.split(' ').map(|word| word.replace('_', " "));
        let line = Line::try_parse_from(["x".to_owned()].into_iter().chain(words));
        let line = line.map_err(|error| error.to_string())?;
        line.flags.prompt(line.task).map_err(|error| error.0)
    }

    #[test]
    fn a_task_is_asked_as_the_model_was_trained() {
        for (line, expected) in [
            ("--task caption", "caption en"),
            (
                "--task caption --length short --language pt-br",
                "cap pt-br",
            ),
            ("--task caption --length detailed", "describe en"),
            (
                "--task vqa --question where_is_it? --language de",
                "answer de where is it?",
            ),
            (
                "--task detect --object red_car --object cat",
                "detect red car ; cat",
            ),
            ("--task segment --object cat --min-score 0.5", "segment cat"),
            ("--task ocr", "ocr"),
        ] {
            assert_eq!(prompt(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (line, words) in [
            ("--task vqa", "needs --question"),
            ("--task vqa --question _", "--question is empty"),
            ("--task detect", "need --object"),
            ("--task segment --object a;b", "contains a `;`"),
            ("--task caption --language xx;;", "language codes"),
            ("--task detect --object a --min-score 1.1", "from 0 to 1"),
            ("--task detect --object a --min-score -1", "from 0 to 1"),
            ("--task detect --object a --min-score NaN", "from 0 to 1"),
            (
                "--task caption --object cat",
                "--object is for --task detect and segment",
            ),
            ("--task ocr --question x", "--question is for --task vqa"),
            (
                "--task vqa --length short",
                "--length is for --task caption",
            ),
            (
                "--task ocr --language en",
                "--language is for --task caption and vqa",
            ),
            (
                "--task ocr --min-score 0",
                "--min-score is for --task detect and segment",
            ),
        ] {
            let error = prompt(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
