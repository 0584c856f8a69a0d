//! The output file: one record per line, including those of earlier runs.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use paligemma_server::pixels::mask::Rle;
use paligemma_server::tasks::bounding_box::DetectedObject;
use paligemma_server::tasks::detection::Dropped;
use serde::{Deserialize, Serialize};

/// One line of the output: a picture and its answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    /// Path relative to the folder.
    pub file: String,
    pub model: String,
    pub prompt: String,
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
    path: PathBuf,
    file: File,
    done: HashSet<String>,
    failed: usize,
}

impl Output {
    /// Opens or creates the file. Removes an incomplete last line, so that its picture is redone.
    ///
    /// # Errors
    /// When it can't be written, doesn't hold records, or holds those of another model or prompt. The
    /// file is then left unchanged.
    pub fn open(path: &Path, model: &str, prompt: &str) -> anyhow::Result<Self> {
        let named = || format!("--output {}", path.display());
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .with_context(named)?;
        let mut output = Self {
            path: path.to_owned(),
            file,
            done: HashSet::new(),
            failed: 0,
        };
        let (records, whole, cut) = output.read().with_context(named)?;
        if !cut.starts_with(RECORD_START) && !RECORD_START.starts_with(&cut) {
            bail!("{} does not hold labels; choose another file", named());
        }
        for record in records {
            if record.prompt != prompt || record.model != model {
                bail!(
                    "{} holds answers of {} to {:?}, but this run asks {model} {prompt:?}; choose another file",
                    named(),
                    record.model,
                    record.prompt
                );
            }
            output.failed += usize::from(record.error.is_some());
            output.done.insert(record.file);
        }
        output.file.set_len(whole).with_context(named)?;
        Ok(output)
    }

    /// Whether the picture already has a record.
    pub fn has(&self, file: &str) -> bool {
        self.done.contains(file)
    }

    /// The number of earlier records with an error.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Appends a record in one write, so that the file holds whole lines.
    pub fn write(&mut self, record: &Record) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let written = self.file.write_all(&line);
        written.with_context(|| format!("--output {}", self.path.display()))
    }

    /// All records, including those of earlier runs.
    pub fn records(&mut self) -> anyhow::Result<Vec<Record>> {
        let (records, _, _) = self.read()?;
        Ok(records)
    }

    /// All complete lines, their length in bytes, and the bytes after them.
    fn read(&mut self) -> anyhow::Result<(Vec<Record>, u64, Vec<u8>)> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut lines = BufReader::new(&self.file);
        let (mut records, mut whole) = (Vec::new(), 0);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            let record = serde_json::from_slice(&line);
            records.push(record.with_context(|| format!("line {}", records.len() + 1))?);
            whole += line.len() as u64;
            line.clear();
        }
        Ok((records, whole, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_is_redone_and_another_prompt_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let record = |file: &str| Record {
            file: file.to_owned(),
            model: "demo".to_owned(),
            prompt: "ocr".to_owned(),
            ..Record::default()
        };
        let mut output = Output::open(&path, "demo", "ocr").unwrap();
        output.write(&record("a.png")).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"file\":\"b.p"].concat()).unwrap();

        let mut output = Output::open(&path, "demo", "ocr").unwrap();
        assert!(output.has("a.png") && !output.has("b.png"));
        output.write(&record("b.png")).unwrap();
        let files: Vec<_> = output
            .records()
            .unwrap()
            .into_iter()
            .map(|r| r.file)
            .collect();
        assert_eq!(files, ["a.png", "b.png"]);

        let error = Output::open(&path, "demo", "caption en")
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("another file"), "{error}");
        let error = Output::open(&path, "tuned", "ocr")
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("answers of demo"), "{error}");

        let other = folder.path().join("coco.json");
        std::fs::write(&other, r#"{"images": []}"#).unwrap();
        let error = Output::open(&other, "demo", "ocr")
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("does not hold labels"), "{error}");
        assert_eq!(std::fs::read(&other).unwrap(), br#"{"images": []}"#);
    }
}
