//! A file of JSON lines that one run at a time appends to, and that a later run goes on with.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// If this run created the file and writes no line, it is removed.
pub struct LineFile {
    path: PathBuf,
    file: File,
    /// The file itself, if this run created it.
    created: Option<PathBuf>,
}

impl LineFile {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// When it can't be written, or another run writes it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let named = || format!("--output {}", path.display());
        let existed = path.exists();
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .with_context(named)?;
        // Two runs would label the same pictures twice. Some network folders know no locks.
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            bail!("{} is being written by another run", named());
        }
        let created = match existed {
            true => None,
            false => Some(path.canonicalize().with_context(named)?),
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            created,
        })
    }

    /// The file as errors name it.
    pub fn named(&self) -> String {
        format!("--output {}", self.path.display())
    }

    /// Reads all lines, and removes an incomplete last one once `check` has passed them. Every line
    /// begins with `start`.
    ///
    /// # Errors
    /// When the file holds anything else, or `check` fails. The file is then left unchanged.
    pub fn resume<T: DeserializeOwned>(
        &mut self,
        start: &[u8],
        check: impl FnOnce(Vec<T>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (lines, whole, cut) = self.read().with_context(|| self.named())?;
        if !cut.starts_with(start) && !start.starts_with(&cut) {
            bail!("{} does not hold labels; choose another file", self.named());
        }
        check(lines)?;
        self.file.set_len(whole).with_context(|| self.named())
    }

    /// Appends a line in one write, so that the file holds whole lines.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn append(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        let written = self.file.write_all(&line);
        written.with_context(|| self.named())
    }

    /// All complete lines, their length in bytes, and the bytes after them.
    ///
    /// # Errors
    /// When it can't be read, or a line is something else.
    pub fn read<T: DeserializeOwned>(&self) -> anyhow::Result<(Vec<T>, u64, Vec<u8>)> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        let mut file = BufReader::new(file);
        let (mut lines, mut whole) = (Vec::new(), 0);
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            let read = serde_json::from_slice(&line);
            lines.push(read.with_context(|| format!("line {}", lines.len() + 1))?);
            whole += line.len() as u64;
            line.clear();
        }
        Ok((lines, whole, line))
    }
}

impl Drop for LineFile {
    fn drop(&mut self) {
        if let Some(path) = &self.created
            && self.file.metadata().is_ok_and(|file| file.len() == 0)
        {
            // Nobody misses what isn't removed.
            let _ = std::fs::remove_file(path);
        }
    }
}
