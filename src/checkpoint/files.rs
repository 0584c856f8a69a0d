//! Where a checkpoint's files are: in a folder, or in this binary.

use std::borrow::Cow;
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use memmap2::{Mmap, UncheckedAdvice};
use serde::de::DeserializeOwned;

use super::error::CheckpointError;
use super::foreign;
use super::raw::{RawConfig, RawGeneration};

macro_rules! demo_files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("../../models/demo/", $name)).as_slice())),*]
    };
}

/// The demo's files, as `models/demo/README.md` describes them.
static DEMO: [(&str, &[u8]); 5] = demo_files![
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// A checkpoint in the Hugging Face layout: where its files are. They are read as they are asked
/// for.
#[derive(Debug, Clone)]
pub enum Checkpoint {
    /// In a folder.
    Folder(PathBuf),
    /// The demo's, in this binary.
    Demo,
}

impl Checkpoint {
    /// The checkpoint in a folder.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        match folder.is_dir() {
            true => Ok(Self::Folder(folder.to_owned())),
            false => Err(CheckpointError::NoFolder(folder.to_owned())),
        }
    }

    /// What `config.json` says.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn config(&self) -> Result<RawConfig, CheckpointError> {
        self.required_json("config.json")
    }

    /// What `generation_config.json` says, if there is one.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn generation_config(&self) -> Result<Option<RawGeneration>, CheckpointError> {
        self.json("generation_config.json")
    }

    /// What messages call it: its folder, or `demo`.
    pub fn name(&self) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.clone(),
            Self::Demo => PathBuf::from("demo"),
        }
    }

    /// # Errors
    /// When its configuration or its files say that it is something else than a PaliGemma in this layout.
    pub fn refuse_foreign(&self) -> Result<(), CheckpointError> {
        let Self::Folder(folder) = self else {
            return Ok(());
        };
        let name = folder.display().to_string();
        match foreign::reason_against(folder, &name, &foreign::files_in(folder)) {
            Some(reason) => Err(CheckpointError::Foreign {
                path: folder.clone(),
                reason,
            }),
            None => Ok(()),
        }
    }

    /// What messages call the file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.name().join(name)
    }

    /// A JSON file's content, `None` when there is no such file.
    ///
    /// # Errors
    /// When the file can't be read or is not the JSON that is wanted.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, CheckpointError> {
        let bytes = match self {
            Self::Demo => demo(name).map(Cow::Borrowed),
            Self::Folder(folder) => {
                self.refuse_pipe(name)?;
                match std::fs::read(folder.join(name)) {
                    Ok(bytes) => Some(Cow::Owned(bytes)),
                    Err(error) if error.kind() == ErrorKind::NotFound => None,
                    Err(error) => return Err(self.unreadable(name, error)),
                }
            }
        };
        let Some(bytes) = bytes else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| CheckpointError::Json {
                path: self.path(name),
                error,
            })
    }

    /// A JSON file that has to be there.
    ///
    /// # Errors
    /// Also when it is not.
    pub fn required_json<T: DeserializeOwned>(&self, name: &str) -> Result<T, CheckpointError> {
        self.json(name)?.ok_or_else(|| self.missing(name))
    }

    /// The bytes of a file of weights, not read yet when they lie in a folder.
    ///
    /// # Errors
    /// When there is no such file, or it can't be mapped.
    pub(super) fn weight_bytes(&self, name: &str) -> Result<WeightBytes, CheckpointError> {
        let Self::Folder(folder) = self else {
            let bytes = demo(name).ok_or_else(|| self.missing(name))?;
            return Ok(WeightBytes::Embedded(bytes));
        };
        self.refuse_pipe(name)?;
        let file = File::open(folder.join(name)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => self.missing(name),
            _ => self.unreadable(name, error),
        })?;
        // SAFETY: the file is only read. Whoever changes a checkpoint under a running server gets
        // other weights, or SIGBUS when it is cut; that is true of every server that maps its
        // weights.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| self.unreadable(name, error))?;
        let state = file
            .metadata()
            .map_err(|error| self.unreadable(name, error))?;
        Ok(WeightBytes::Mapped { map, state })
    }

    /// Refuses a pipe or a device, on whose end one would wait for ever. A file that is not there is
    /// for whoever opens it.
    fn refuse_pipe(&self, name: &str) -> Result<(), CheckpointError> {
        let path = self.path(name);
        match std::fs::metadata(&path) {
            Ok(metadata) if !metadata.is_file() => Err(CheckpointError::NotAFile { path }),
            _ => Ok(()),
        }
    }

    fn missing(&self, name: &str) -> CheckpointError {
        CheckpointError::MissingFile {
            path: self.path(name),
        }
    }

    fn unreadable(&self, name: &str, error: std::io::Error) -> CheckpointError {
        CheckpointError::Unreadable {
            path: self.path(name),
            error,
        }
    }
}

fn demo(name: &str) -> Option<&'static [u8]> {
    let file = DEMO.iter().find(|(file, _)| *file == name)?;
    Some(file.1)
}

/// A file of weights.
#[derive(Debug)]
pub enum WeightBytes {
    Mapped {
        map: Mmap,
        /// As the file was when it was opened.
        state: Metadata,
    },
    Embedded(&'static [u8]),
}

impl WeightBytes {
    /// Gives the memory of a mapped range back; it is read from the file again when it is touched
    /// again.
    pub fn release(&self, range: Range<usize>) {
        let Self::Mapped { map, .. } = self else {
            return;
        };
        // SAFETY: the mapping is of a file, shared and read-only, so nothing is lost.
        let released = unsafe {
            map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
        };
        if let Err(error) = released {
            tracing::debug!(%error, "the pages of a tensor that was read could not be released");
        }
    }
}

impl Deref for WeightBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped { map, .. } => map,
            Self::Embedded(bytes) => bytes,
        }
    }
}
