//! Pictures in a folder and its subfolders.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::patterns::Patterns;

/// Paths of the pictures in `folder`, relative to it, with slashes.
///
/// # Errors
/// When a folder can't be read.
pub fn in_folder(folder: &Path, patterns: &Patterns) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    walk(folder, &mut PathBuf::new(), &mut found)?;
    found.retain(|path| patterns.select(path));
    Ok(found)
}

/// Adds all files under `folder`/`below` and links to files. Skips links to folders, which may form
/// cycles.
fn walk(folder: &Path, below: &mut PathBuf, found: &mut Vec<String>) -> anyhow::Result<()> {
    let here = folder.join(&below);
    let entries = std::fs::read_dir(&here).with_context(|| here.display().to_string())?;
    for entry in entries {
        let entry = entry.with_context(|| here.display().to_string())?;
        let kind = entry
            .file_type()
            .with_context(|| entry.path().display().to_string())?;
        below.push(entry.file_name());
        if kind.is_dir() {
            walk(folder, below, found)?;
        } else if kind.is_file() || (kind.is_symlink() && entry.path().is_file()) {
            match below.to_str() {
                Some(path) => found.push(path.to_owned()),
                None => tracing::warn!(path = %below.display(), "skipped: its name is not UTF-8"),
            }
        }
        below.pop();
    }
    Ok(())
}
