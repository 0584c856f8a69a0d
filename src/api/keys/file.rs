//! The file of keys: on each line a name and the SHA-256 of a key, as `sha256sum` writes it.

use std::path::{Path, PathBuf};

use super::Hash;

/// Why a file of keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("api_key_file {path}: cannot be read: {error}")]
    Unreadable {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error(
        "api_key_file {path}, line {line}: {reason}; write a name and the key's SHA-256 in hexadecimal, as `printf %s KEY | sha256sum` gives it"
    )]
    Line {
        path: PathBuf,
        line: usize,
        reason: &'static str,
    },
}

/// The keys of a file, by name.
///
/// # Errors
/// When it can't be read, or a line is neither a key nor blank nor a comment.
pub(super) fn read(path: &Path) -> Result<Vec<(String, Hash)>, KeyFileError> {
    let text = std::fs::read_to_string(path).map_err(|error| KeyFileError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    let mut keys: Vec<(String, Hash)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let fail = |reason| KeyFileError::Line {
            path: path.to_owned(),
            line: number + 1,
            reason,
        };
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<_> = line.split_whitespace().collect();
        let (name, hash) = match words.as_slice() {
            [] => continue,
            [name, hash] => (*name, hash.strip_prefix("sha256:").unwrap_or(hash)),
            _ => return Err(fail("it has not two words")),
        };
        let hash =
            blake3::Hash::from_hex(hash).map_err(|_| fail("the second word is no SHA-256"))?;
        if keys.iter().any(|(other, _)| other == name) {
            return Err(fail("an earlier line has this name"));
        }
        keys.push((name.to_owned(), *hash.as_bytes()));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Vec<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let keys = read(file.path()).map_err(|error| error.to_string())?;
        Ok(keys.into_iter().map(|(name, _)| name).collect())
    }

    /// The SHA-256 of `secret`.
    const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn names_hashes_comments_and_blank_lines_are_read() {
        let text = format!("# who may\n\nalice {SECRET}\n  bob\tsha256:{SECRET}  # until May\n");
        assert_eq!(keys(&text).unwrap(), ["alice", "bob"]);
        assert_eq!(
            super::super::hash(b"secret"),
            *blake3::Hash::from_hex(SECRET).unwrap().as_bytes()
        );
    }

    #[test]
    fn other_lines_are_refused_by_number_and_never_shown() {
        for (text, words) in [
            ("alice\n".to_owned(), "line 1: it has not two words"),
            (
                format!("#\nalice {SECRET} x\n"),
                "line 2: it has not two words",
            ),
            (
                "alice hunter2\n".to_owned(),
                "line 1: the second word is no SHA-256",
            ),
            (
                format!("a {SECRET}\na {SECRET}\n"),
                "line 2: an earlier line has this name",
            ),
        ] {
            let error = keys(&text).unwrap_err();
            assert!(
                error.contains(words) && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
