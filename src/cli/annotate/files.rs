//! Finds the pictures in a folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use glob::{MatchOptions, Pattern};

/// File extensions of the supported formats.
const ENDINGS: [&str; 9] = [
    "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "jfif",
];

/// Sorted paths relative to `folder`, with slashes: those that match a pattern of `include` or, if
/// there is none, those with a picture's extension.
///
/// # Errors
/// When the folder can't be read, a pattern is invalid, or no file matches.
pub fn pictures(folder: &Path, include: &[String]) -> anyhow::Result<Vec<String>> {
    let patterns = include
        .iter()
        .map(|text| Pattern::new(text).with_context(|| format!("--include {text}")));
    let patterns = patterns.collect::<anyhow::Result<Vec<_>>>()?;
    let mut found = Vec::new();
    walk(folder, &mut PathBuf::new(), &mut found)?;
    found.retain(|path| match patterns.is_empty() {
        true => is_picture(path),
        false => patterns
            .iter()
            .any(|pattern| pattern.matches_with(path, MATCHING)),
    });
    found.sort_unstable();
    ensure!(
        !found.is_empty(),
        "{} holds no pictures{}",
        folder.display(),
        if patterns.is_empty() {
            ""
        } else {
            " that --include matches"
        }
    );
    Ok(found)
}

/// `*` doesn't match slashes, `**` does.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: false,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

fn is_picture(path: &str) -> bool {
    let ending = Path::new(path)
        .extension()
        .and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| {
        ENDINGS
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_found_in_all_folders_and_filtered_by_patterns() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        for file in ["x.JPG", "notes.txt", "a/y.png", "a/b/z.webp"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let found = |include: &[&str]| {
            let include: Vec<_> = include.iter().map(ToString::to_string).collect();
            pictures(folder.path(), &include).unwrap()
        };
        assert_eq!(found(&[]), ["a/b/z.webp", "a/y.png", "x.JPG"]);
        assert_eq!(found(&["*.jpg", "a/*.png"]), ["a/y.png", "x.JPG"]);
        assert_eq!(found(&["a/**/*"]), ["a/b/z.webp", "a/y.png"]);
        assert!(pictures(folder.path(), &["*.bmp".to_owned()]).is_err());
    }
}
