//! The output file: one record per line, including those of earlier runs.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use anyhow::bail;
use paligemma_server::pixels::mask::Rle;
use paligemma_server::tasks::bounding_box::DetectedObject;
use paligemma_server::tasks::detection::Dropped;
use serde::{Deserialize, Serialize};

use super::line_file::LineFile;
use super::progress::Outcome;

/// One line of the output: a picture and its answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    /// The picture's name: its path relative to the folder, or as it was given.
    pub file: String,
    #[serde(flatten)]
    pub asked: Asked,
    /// Size of the upright picture in pixels; 0 if the file is not a picture.
    pub width: u32,
    pub height: u32,
    /// The model's output, unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<Vec<RecordedDetection>>,
    /// Output that does not parse as an object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<Dropped>,
    /// `stop`, or `length` when the answer was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Record {
    pub fn outcome(&self) -> Outcome {
        match self.finish_reason.as_deref() {
            None => Outcome::Failed,
            Some("length") => Outcome::Cut,
            Some(_) => Outcome::Labelled,
        }
    }
}

/// What the records of one file have in common.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub model: String,
    /// The adapter that answered beside the model, or that was merged into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    pub prompt: String,
    /// Objects with a lower score were left out.
    #[serde(default, skip_serializing_if = "leaves_none_out")]
    pub min_score: f32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn leaves_none_out(min_score: &f32) -> bool {
    *min_score == 0.0
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.model)?;
        if let Some(adapter) = &self.adapter {
            write!(f, " with the adapter {adapter}")?;
        }
        write!(f, " to {:?}", self.prompt)?;
        match self.min_score {
            0.0 => Ok(()),
            score => write!(f, " with --min-score {score}"),
        }
    }
}

/// A detection as a record holds it: in pixels, and with its mask if the task makes one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordedDetection {
    #[serde(flatten)]
    pub object: DetectedObject,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Rle>,
    /// Number of pixels in the mask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub area: Option<usize>,
}

/// The start of every line.
const RECORD_START: &[u8] = br#"{"file":"#;

/// The file that records are appended to.
pub struct Output {
    lines: LineFile,
    /// Pictures that have a record, and whether it holds an error.
    done: HashMap<String, bool>,
}

impl Output {
    /// Opens or creates the file. Removes an incomplete last line, so that its picture is redone.
    ///
    /// # Errors
    /// When it can't be written, doesn't hold records, or holds answers to something else than was
    /// `asked`. The file is then left unchanged.
    pub fn open(path: &Path, asked: &Asked) -> anyhow::Result<Self> {
        let mut lines = LineFile::open(path)?;
        let named = lines.named();
        let mut done = HashMap::new();
        lines.resume(RECORD_START, |records: Vec<Record>| {
            for record in records {
                if record.asked != *asked {
                    bail!(
                        "{named} holds answers of {}, but this run asks for those of {asked}; choose another file",
                        record.asked,
                    );
                }
                done.insert(record.file, record.error.is_some());
            }
            Ok(())
        })?;
        Ok(Self { lines, done })
    }

    /// Whether the picture already has a record.
    pub fn has(&self, name: &str) -> bool {
        self.done.contains_key(name)
    }

    /// Whether the picture already has a record that holds an error.
    pub fn has_error(&self, name: &str) -> bool {
        self.done.get(name) == Some(&true)
    }

    /// Appends a record in one write, so that the file holds whole lines.
    pub fn write(&mut self, record: &Record) -> anyhow::Result<()> {
        self.lines.append(record)
    }

    /// All records, including those of earlier runs.
    pub fn records(&self) -> anyhow::Result<Vec<Record>> {
        let (records, _, _) = self.lines.read()?;
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(model: &str, prompt: &str, min_score: f32) -> Asked {
        Asked {
            model: model.to_owned(),
            prompt: prompt.to_owned(),
            min_score,
            ..Asked::default()
        }
    }

    fn record(file: &str, asked: Asked) -> Record {
        Record {
            file: file.to_owned(),
            asked,
            ..Record::default()
        }
    }

    fn refusal(path: &Path, asked: &Asked) -> String {
        Output::open(path, asked).err().unwrap().to_string()
    }

    #[test]
    fn a_cut_line_is_redone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let ocr = asked("demo", "ocr", 0.0);
        let mut output = Output::open(&path, &ocr).unwrap();
        output.write(&record("a.png", ocr.clone())).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"file\":\"b.p"].concat()).unwrap();
        drop(output);

        let mut output = Output::open(&path, &ocr).unwrap();
        assert!(output.has("a.png") && !output.has("b.png"));
        output.write(&record("b.png", ocr)).unwrap();
        let records = output.records().unwrap();
        let files: Vec<_> = records.into_iter().map(|record| record.file).collect();
        assert_eq!(files, ["a.png", "b.png"]);
    }

    #[test]
    fn answers_to_something_else_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let cats = asked("demo", "detect cat", 0.3);
        let mut output = Output::open(&path, &cats).unwrap();
        output.write(&record("a.png", cats.clone())).unwrap();
        drop(output);
        assert!(Output::open(&path, &cats).is_ok());
        for other in [
            asked("demo", "detect dog", 0.3),
            asked("tuned", "detect cat", 0.3),
            asked("demo", "detect cat", 0.0),
            Asked {
                adapter: Some("cats".to_owned()),
                ..cats.clone()
            },
        ] {
            let error = refusal(&path, &other);
            let old = "answers of demo to \"detect cat\" with --min-score 0.3";
            assert!(error.contains(old), "{error}");
            assert!(
                error.ends_with(&format!("{other}; choose another file")),
                "{error}"
            );
        }

        let other = folder.path().join("coco.json");
        std::fs::write(&other, r#"{"images": []}"#).unwrap();
        let error = refusal(&other, &cats);
        assert!(error.contains("does not hold labels"), "{error}");
        assert_eq!(std::fs::read(&other).unwrap(), br#"{"images": []}"#);
    }

    #[test]
    fn one_run_at_a_time_writes_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let ocr = asked("demo", "ocr", 0.0);
        let first = Output::open(&path, &ocr).unwrap();
        assert!(refusal(&path, &ocr).ends_with("by another run"));
        drop(first);
        assert!(Output::open(&path, &ocr).is_ok());
    }

    #[test]
    fn a_file_that_got_no_record_is_removed_unless_it_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let ocr = asked("demo", "ocr", 0.0);
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        std::fs::write(&old, "").unwrap();
        let link = folder.path().join("link");
        let target = folder.path().join("target");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for path in [&new, &old, &link] {
            drop(Output::open(path, &ocr).unwrap());
        }
        assert!(!new.exists() && old.exists() && !target.exists());
    }
}
