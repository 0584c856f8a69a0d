//! What the fuzz targets share.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub mod service;

/// What operators and clients read: one line, which says something.
pub fn assert_one_line(error: impl ToString) {
    let text = error.to_string();
    assert!(!text.trim().is_empty(), "an error says nothing");
    assert!(!text.contains(['\n', '\r']), "more than one line: {text:?}");
}

/// A file of the repository's tests.
pub fn golden(name: &str) -> PathBuf {
    paligemma_test_support::root()
        .join("tests/goldens")
        .join(name)
}

/// A folder of its own for a target, with links to `files`.
pub fn folder_with(files: &[PathBuf]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    for file in files {
        link(file, folder.path());
    }
    folder
}

fn link(file: &Path, folder: &Path) {
    let name = file.file_name().expect("a file has a name");
    let target = fs::canonicalize(file).expect("the goldens are there");
    std::os::unix::fs::symlink(target, folder.join(name)).expect("the folder is new");
}
