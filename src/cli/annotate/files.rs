//! Finds the pictures to label.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, ensure};
use glob::{MatchOptions, Pattern};

use super::super::exit::UsageError;

/// File extensions of the supported formats.
const ENDINGS: [&str; 9] = [
    "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "jfif",
];

/// A file to label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Picture {
    /// What its record is called.
    pub name: String,
    pub path: PathBuf,
}

/// The pictures that `paths` name, sorted by name.
///
/// In a folder these are the files that match a pattern of `include` or, if there is none, have a
/// picture's extension. A file that is named itself is always one. If `paths` is a single folder,
/// names are relative to it; otherwise they start with the path as it was given.
///
/// # Errors
/// When a path can't be read, a pattern is invalid, or there is no picture.
pub fn pictures(paths: &[PathBuf], include: &[String]) -> anyhow::Result<Vec<Picture>> {
    let patterns = include.iter().map(|text| {
        Pattern::new(text).map_err(|error| UsageError(format!("--include {text}: {error}")))
    });
    let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
    let mut pictures = Vec::new();
    for path in paths {
        let metadata = path.metadata();
        let metadata = metadata.with_context(|| path.display().to_string())?;
        if !metadata.is_dir() {
            pictures.push(Picture {
                name: name(path)?,
                path: path.clone(),
            });
            continue;
        }
        let prefix = match paths {
            [_] => String::new(),
            _ => name(path)?,
        };
        let found = in_folder(path, &patterns)?;
        pictures.extend(found.into_iter().map(|below| Picture {
            name: joined(&prefix, &below),
            path: path.join(&below),
        }));
    }
    pictures.sort_unstable();
    pictures.dedup_by(|one, other| one.name == other.name);
    ensure!(
        !pictures.is_empty(),
        "{} holds no pictures{}",
        names(paths),
        if patterns.is_empty() {
            ""
        } else {
            " that --include matches"
        }
    );
    Ok(pictures)
}

/// The path as it was given, without a leading `./`.
fn name(path: &Path) -> anyhow::Result<String> {
    let path: PathBuf = path
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect();
    let name = path.to_str();
    let name = name.with_context(|| format!("{}: its name is not UTF-8", path.display()))?;
    Ok(name.to_owned())
}

fn joined(prefix: &str, below: &str) -> String {
    match prefix {
        "" => below.to_owned(),
        _ => format!("{}/{below}", prefix.trim_end_matches('/')),
    }
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    names.join(", ")
}

/// Paths of the pictures in `folder`, relative to it, with slashes.
fn in_folder(folder: &Path, patterns: &[Pattern]) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    walk(folder, &mut PathBuf::new(), &mut found)?;
    found.retain(|path| match patterns.is_empty() {
        true => is_picture(path),
        false => patterns
            .iter()
            .any(|pattern| pattern.matches_with(path, MATCHING)),
    });
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

    /// A folder with pictures and other files.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        for file in ["x.JPG", "notes.txt", "a/y.png", "a/b/z.webp"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        folder
    }

    fn names(pictures: Vec<Picture>) -> Vec<String> {
        pictures.into_iter().map(|picture| picture.name).collect()
    }

    #[test]
    fn pictures_are_found_in_all_folders_and_filtered_by_patterns() {
        let folder = folder();
        let paths = [folder.path().to_owned()];
        let found = |include: &[&str]| {
            let include: Vec<_> = include.iter().map(ToString::to_string).collect();
            names(pictures(&paths, &include).unwrap())
        };
        assert_eq!(found(&[]), ["a/b/z.webp", "a/y.png", "x.JPG"]);
        assert_eq!(found(&["*.jpg", "a/*.png"]), ["a/y.png", "x.JPG"]);
        assert_eq!(found(&["a/**/*"]), ["a/b/z.webp", "a/y.png"]);
        assert!(pictures(&paths, &["*.bmp".to_owned()]).is_err());
    }

    #[test]
    fn files_and_several_folders_keep_the_names_that_they_were_given() {
        let folder = folder();
        let under = |path: &str| folder.path().join(path);
        let root = folder.path().to_str().unwrap();
        // A file that is named is a picture, whatever its name.
        let paths = [under("notes.txt"), under("a/b/"), under("a/b/z.webp")];
        let found = pictures(&paths, &[]).unwrap();
        assert_eq!(found[0].path, under("a/b/z.webp"));
        let expected = ["a/b/z.webp", "notes.txt"].map(|name| format!("{root}/{name}"));
        assert_eq!(names(found), expected);
        assert_eq!(name(Path::new("./photos/./a.jpg")).unwrap(), "photos/a.jpg");
        assert_eq!(joined("/", "a.jpg"), "/a.jpg");
    }
}
