//! The flags of `annotate`.

use std::path::PathBuf;

use anyhow::{anyhow, ensure};
use paligemma_server::tasks::caption::Length;
use paligemma_server::tasks::{DEFAULT_LANGUAGE, caption, detection, is_language_code, ocr, vqa};

use super::super::flags::SettingsFlags;

#[derive(clap::Args)]
pub struct Args {
    /// The folder of pictures to label, including its subfolders.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    #[arg(long, value_enum)]
    pub task: TaskName,
    /// The file for the labels, one JSON object per line. Pictures that it already has are skipped.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Only files whose path relative to DIR matches, such as 'holiday/**/*.jpg'; may be repeated.
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// For vqa: the question.
    #[arg(long, required_if_eq("task", "vqa"))]
    question: Option<String>,
    /// For detect and segment: what to look for; may be repeated.
    #[arg(long = "object", value_name = "NAME", required_if_eq_any([("task", "detect"), ("task", "segment")]))]
    objects: Vec<String>,
    /// For caption: short, normal (the default) or detailed.
    #[arg(long, value_enum)]
    length: Option<LengthName>,
    /// For caption and vqa: the language of the answers; default en.
    #[arg(long)]
    language: Option<String>,
    /// For detect and segment: at the end, also write everything in --output as COCO JSON.
    #[arg(long, value_name = "FILE")]
    pub coco: Option<PathBuf>,
    #[command(flatten)]
    pub settings: SettingsFlags<true>,
}

/// The task to run on each picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TaskName {
    Caption,
    Ocr,
    Vqa,
    Detect,
    Segment,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LengthName {
    Short,
    Normal,
    Detailed,
}

impl TaskName {
    pub fn has_objects(self) -> bool {
        matches!(self, Self::Detect | Self::Segment)
    }

    fn has_language(self) -> bool {
        matches!(self, Self::Caption | Self::Vqa)
    }
}

impl Args {
    /// The prompt, the same for every picture.
    ///
    /// # Errors
    /// Flags that are wrong or belong to another task.
    pub fn prompt(&self) -> anyhow::Result<String> {
        self.refuse_flags_of_other_tasks()?;
        let language = self.language.as_deref().unwrap_or(DEFAULT_LANGUAGE);
        ensure!(
            is_language_code(language),
            "--language is {language:?}; allowed are language codes such as en"
        );
        Ok(match self.task {
            TaskName::Caption => caption::prompt(self.length(), language),
            TaskName::Ocr => ocr::PROMPT.to_owned(),
            TaskName::Vqa => {
                let question = self.question.as_deref().unwrap_or_default();
                ensure!(!question.trim().is_empty(), "--question is empty");
                vqa::prompt(question, language)
            }
            TaskName::Detect => detection::prompt("detect", &self.names()?),
            TaskName::Segment => detection::prompt("segment", &self.names()?),
        })
    }

    fn length(&self) -> Length {
        match self.length {
            Some(LengthName::Short) => Length::Short,
            None | Some(LengthName::Normal) => Length::Normal,
            Some(LengthName::Detailed) => Length::Detailed,
        }
    }

    fn names(&self) -> anyhow::Result<Vec<String>> {
        let names = self.objects.iter().map(|object| {
            detection::name(object).map_err(|reason| anyhow!("--object {object:?} {reason}"))
        });
        names.collect()
    }

    fn refuse_flags_of_other_tasks(&self) -> anyhow::Result<()> {
        let task = self.task;
        for (flag, sent, fits, tasks) in [
            (
                "coco",
                self.coco.is_some(),
                task.has_objects(),
                "detect and segment",
            ),
            (
                "object",
                !self.objects.is_empty(),
                task.has_objects(),
                "detect and segment",
            ),
            (
                "question",
                self.question.is_some(),
                task == TaskName::Vqa,
                "vqa",
            ),
            (
                "length",
                self.length.is_some(),
                task == TaskName::Caption,
                "caption",
            ),
            (
                "language",
                self.language.is_some(),
                task.has_language(),
                "caption and vqa",
            ),
        ] {
            ensure!(fits || !sent, "--{flag} is for {tasks}");
        }
        Ok(())
    }
}
