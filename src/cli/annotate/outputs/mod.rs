//! What is written at the end, beside the records: [`coco`], [`yolo`], [`label_studio`].

mod coco;
mod label_studio;
mod yolo;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use super::super::exit::UsageError;
use super::record::Record;

/// Where to write what.
#[derive(Debug, Clone, clap::Args)]
pub struct Outputs {
    /// For detect and segment: at the end, also write everything in --output as COCO JSON.
    #[arg(long, value_name = "FILE")]
    coco: Option<PathBuf>,
    /// For detect and segment: at the end, also write the boxes as YOLO labels into this folder.
    #[arg(long, value_name = "FOLDER")]
    yolo: Option<PathBuf>,
    /// At the end, also write everything in --output as tasks for Label Studio, with predictions.
    #[arg(long, value_name = "FILE")]
    label_studio: Option<PathBuf>,
    /// For --label-studio: what comes before a picture's name in its URL.
    #[arg(
        long,
        value_name = "URL",
        requires = "label_studio",
        default_value = label_studio::LOCAL_FILES
    )]
    picture_url: String,
}

impl Outputs {
    /// The first flag that is only for objects.
    pub fn of_objects(&self) -> Option<&'static str> {
        match () {
            () if self.coco.is_some() => Some("coco"),
            () if self.yolo.is_some() => Some("yolo"),
            () => None,
        }
    }

    /// Checks that all can be written later, for pictures with these names.
    ///
    /// # Errors
    /// When a file is the output file (also through a link) or another one of these, a folder, or in
    /// a folder that doesn't exist; when two pictures would have the same YOLO label.
    pub fn check<'a>(
        &self,
        output: &Path,
        names: impl Iterator<Item = &'a str>,
    ) -> anyhow::Result<()> {
        for (flag, path) in [("coco", &self.coco), ("label-studio", &self.label_studio)] {
            if let Some(path) = path {
                check(path, output).with_context(|| format!("--{flag} {}", path.display()))?;
            }
        }
        if self.coco.is_some() && self.coco == self.label_studio {
            let message = "--coco and --label-studio are the same file".to_owned();
            return Err(UsageError(message).into());
        }
        if let Some(folder) = &self.yolo {
            let checked = yolo::check(folder, names);
            checked.with_context(|| format!("--yolo {}", folder.display()))?;
        }
        Ok(())
    }

    /// Whether there is anything to write.
    pub fn is_empty(&self) -> bool {
        self.coco.is_none() && self.yolo.is_none() && self.label_studio.is_none()
    }

    /// Writes all pictures that have an answer, even those without objects.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn write(&self, mut records: Vec<Record>) -> anyhow::Result<()> {
        records.retain(|record| record.error.is_none());
        records.sort_by(|a, b| a.file.cmp(&b.file));
        if let Some(path) = &self.coco {
            write_json(path, &coco::document(&records))
                .with_context(|| format!("--coco {}", path.display()))?;
        }
        if let Some(folder) = &self.yolo {
            yolo::write(folder, &records)
                .with_context(|| format!("--yolo {}", folder.display()))?;
        }
        if let Some(path) = &self.label_studio {
            write_json(path, &label_studio::tasks(&records, &self.picture_url))
                .with_context(|| format!("--label-studio {}", path.display()))?;
        }
        Ok(())
    }
}

fn check(path: &Path, output: &Path) -> anyhow::Result<()> {
    ensure!(!path.is_dir(), "this is a folder");
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    ensure!(
        folder.is_dir(),
        "the folder {} does not exist",
        folder.display()
    );
    if let (Ok(one), Ok(other)) = (path.metadata(), output.metadata()) {
        let same = (one.dev(), one.ino()) == (other.dev(), other.ino());
        if same {
            return Err(UsageError("--output is the same file".to_owned()).into());
        }
    }
    Ok(())
}

fn write_json(path: &Path, document: &impl Serialize) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    serde_json::to_writer(&mut file, document)?;
    file.flush()?;
    Ok(())
}
