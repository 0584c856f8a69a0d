//! `--manifest FILE`: a text that names a picture per line.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::name;

/// What a line names: its name in the output, and where it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub path: PathBuf,
}

/// Reads the manifest; `-` is stdin. Paths are relative to the manifest's folder; those of stdin, to
/// this process's.
///
/// # Errors
/// When it can't be read or is not UTF-8.
pub fn entries(manifest: &Path) -> anyhow::Result<Vec<Entry>> {
    let mut text = String::new();
    let read = match manifest == Path::new("-") {
        true => std::io::stdin().read_to_string(&mut text),
        false => std::fs::File::open(manifest).and_then(|mut file| file.read_to_string(&mut text)),
    };
    read.with_context(|| format!("--manifest {}", manifest.display()))?;
    let folder = manifest.parent().unwrap_or(Path::new(""));
    lines(&text)
        .map(|line| {
            Ok(Entry {
                name: name(Path::new(line))?,
                path: folder.join(line),
            })
        })
        .collect()
}

/// The lines that are no comments and not empty.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(|line| line.trim_end_matches('\r'));
    lines.filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_path_from_the_manifests_folder() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("list.txt");
        let text = "# street\n./a b.jpg\r\n\n/data/c.jpg\ndeep/#d.jpg\n";
        std::fs::write(&manifest, text).unwrap();
        let found = entries(&manifest).unwrap();
        let entry = |name: &str, path: &Path| Entry {
            name: name.to_owned(),
            path: path.to_owned(),
        };
        let expected = [
            entry("a b.jpg", &folder.path().join("./a b.jpg")),
            entry("/data/c.jpg", Path::new("/data/c.jpg")),
            entry("deep/#d.jpg", &folder.path().join("deep/#d.jpg")),
        ];
        assert_eq!(found, expected);

        std::fs::write(&manifest, b"\xff.jpg\n").unwrap();
        let error = format!("{:#}", entries(&manifest).unwrap_err());
        assert!(
            error.contains("--manifest") && error.contains("UTF-8"),
            "{error}"
        );
    }
}
