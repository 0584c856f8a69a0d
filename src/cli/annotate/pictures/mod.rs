//! Finds the pictures to label.
//!
//! [`folder`], [`archive`] and [`manifest`] are where they come from, [`patterns`] selects some of them by name, and
//! [`shard`] a part of them.

mod archive;
mod folder;
mod manifest;
mod patterns;
mod shard;

use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, ensure};
use bytes::Bytes;

use archive::{Member, in_archive, is_archive};
use folder::in_folder;
use patterns::Patterns;
pub use shard::Shard;

/// A file to label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Picture {
    /// What its record is called.
    pub name: String,
    pub place: Place,
}

/// Where a picture is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    File(PathBuf),
    Member(Member),
    /// Why it can't be read.
    Unreadable(String),
}

impl Place {
    /// The bytes of the picture's file.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn read(self) -> io::Result<Bytes> {
        let read = move || match self {
            Self::File(path) => std::fs::read(path),
            Self::Member(member) => member.read(),
            Self::Unreadable(reason) => Err(io::Error::other(reason)),
        };
        let bytes = tokio::task::spawn_blocking(read).await;
        bytes.map_err(io::Error::other)?.map(Bytes::from)
    }
}

/// Where the pictures are: paths or a manifest.
pub struct Sources<'a> {
    pub paths: &'a [PathBuf],
    pub manifest: Option<&'a Path>,
    pub include: &'a [String],
    pub shard: Option<Shard>,
}

/// The pictures of the sources, sorted by name.
///
/// In a folder and in a tar archive these are the files that a pattern of `include` matches or, if
/// there is none, that have a picture's extension. Any other file that is named itself is always one. If `paths` is a single
/// folder, names are relative to it; otherwise they start with the path as it was given, that of the
/// archive included.
///
/// # Errors
/// When a path can't be read, a pattern is invalid, or there is no picture in any shard.
pub fn pictures(sources: &Sources) -> anyhow::Result<Vec<Picture>> {
    let patterns = Patterns::new(sources.include)?;
    let (mut pictures, named) = match sources.manifest {
        Some(manifest) => {
            let listed = listed(manifest, &patterns)?;
            (listed, format!("--manifest {}", manifest.display()))
        }
        None => (under(sources.paths, &patterns)?, names(sources.paths)),
    };
    pictures.sort_unstable();
    pictures.dedup_by(|one, other| one.name == other.name);
    ensure!(
        !pictures.is_empty(),
        "{named} holds no pictures{}",
        if patterns.is_empty() {
            ""
        } else {
            " that --include matches"
        }
    );
    if let Some(shard) = sources.shard {
        pictures.retain(|picture| shard.has(&picture.name));
    }
    Ok(pictures)
}

/// The files that a manifest names.
fn listed(manifest: &Path, patterns: &Patterns) -> anyhow::Result<Vec<Picture>> {
    let mut pictures = Vec::new();
    for manifest::Entry { name, path } in manifest::entries(manifest)? {
        if is_archive(&path) {
            pictures.extend(in_archive(&path, &name, patterns));
        } else if patterns.select_named(&name) {
            pictures.push(Picture {
                name,
                place: Place::File(path),
            });
        }
    }
    Ok(pictures)
}

/// The files that `paths` name, and those in the folders that they name.
fn under(paths: &[PathBuf], patterns: &Patterns) -> anyhow::Result<Vec<Picture>> {
    let mut pictures = Vec::new();
    for path in paths {
        let metadata = path.metadata();
        let metadata = metadata.with_context(|| path.display().to_string())?;
        if metadata.is_file() && is_archive(path) {
            pictures.extend(in_archive(path, &name(path)?, patterns));
            continue;
        }
        if !metadata.is_dir() {
            pictures.push(Picture {
                name: name(path)?,
                place: Place::File(path.clone()),
            });
            continue;
        }
        let prefix = match paths {
            [_] => String::new(),
            _ => name(path)?,
        };
        let found = in_folder(path, patterns)?;
        pictures.extend(found.into_iter().map(|below| Picture {
            name: joined(&prefix, &below),
            place: Place::File(path.join(&below)),
        }));
    }
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

    fn pictures(paths: &[PathBuf], include: &[String]) -> anyhow::Result<Vec<Picture>> {
        super::pictures(&Sources {
            paths,
            include,
            manifest: None,
            shard: None,
        })
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
        assert_eq!(found[0].place, Place::File(under("a/b/z.webp")));
        let expected = ["a/b/z.webp", "notes.txt"].map(|name| format!("{root}/{name}"));
        assert_eq!(names(found), expected);
        assert_eq!(name(Path::new("./photos/./a.jpg")).unwrap(), "photos/a.jpg");
        assert_eq!(joined("/", "a.jpg"), "/a.jpg");
    }
}
