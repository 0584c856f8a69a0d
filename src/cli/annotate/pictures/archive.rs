//! Pictures in a tar archive, such as a shard of a WebDataset. They are read from where they lie in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use super::patterns::Patterns;
use super::{Picture, Place, joined, name};

/// A larger member is not read.
const LARGEST: u64 = 1 << 30;

/// Whether a path names an archive.
pub fn is_archive(path: &Path) -> bool {
    let ending = path.extension();
    ending.is_some_and(|ending| ending.eq_ignore_ascii_case("tar"))
}

/// Where a picture lies in an archive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    archive: Arc<Path>,
    offset: u64,
    size: u64,
}

impl Member {
    /// Its bytes.
    ///
    /// # Errors
    /// When the archive can't be read, or is shorter than it was.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let size = usize::try_from(self.size).map_err(io::Error::other)?;
        let mut bytes = vec![0; size];
        File::open(&self.archive)?.read_exact_at(&mut bytes, self.offset)?;
        Ok(bytes)
    }
}

/// The pictures in an archive that is called `called`. If it is damaged, those before the damage, and
/// the archive itself as one that can't be read.
pub fn in_archive(path: &Path, called: &str, patterns: &Patterns) -> Vec<Picture> {
    let mut pictures = Vec::new();
    if let Err(error) = walk(path, called, patterns, &mut pictures) {
        pictures.push(Picture {
            name: called.to_owned(),
            place: Place::Unreadable(format!("the archive is damaged: {error}")),
        });
    }
    pictures
}

fn walk(
    path: &Path,
    called: &str,
    patterns: &Patterns,
    pictures: &mut Vec<Picture>,
) -> io::Result<()> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let archive: Arc<Path> = path.into();
    for entry in tar::Archive::new(file).entries_with_seek()? {
        let entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let member = entry.path()?.into_owned();
        let Ok(below) = name(&member) else {
            tracing::warn!(path = %member.display(), "skipped: its name is not UTF-8");
            continue;
        };
        if !patterns.select(&below) {
            continue;
        }
        let (offset, size) = (entry.raw_file_position(), entry.size());
        let place = match offset.checked_add(size) {
            _ if size > LARGEST => Place::Unreadable(format!(
                "it is {size} bytes; members of up to {LARGEST} are read"
            )),
            Some(end) if end <= length => Place::Member(Member {
                archive: Arc::clone(&archive),
                offset,
                size,
            }),
            _ => Place::Unreadable("the archive ends within it".to_owned()),
        };
        pictures.push(Picture {
            name: joined(called, &below),
            place,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn found(bytes: &[u8]) -> Vec<(String, Result<Vec<u8>, String>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.tar");
        std::fs::write(&path, bytes).unwrap();
        let pictures = in_archive(&path, "s.tar", &Patterns::new(&[]).unwrap());
        let read = |place| match place {
            Place::Member(member) => member.read().map_err(|error| error.to_string()),
            Place::Unreadable(reason) => Err(reason),
            Place::File(path) => panic!("{path:?}"),
        };
        pictures
            .into_iter()
            .map(|picture| (picture.name, read(picture.place)))
            .collect()
    }

    #[test]
    fn members_with_a_pictures_ending_are_found_where_they_lie() {
        let long = format!("{}/b.png", "deep/".repeat(40));
        let bytes = tar(&[
            ("a.jpg", b"one"),
            ("a.json", b"{}"),
            (&long, &[7; 2000]),
            ("c.WEBP", b""),
        ]);
        let expected = [
            ("s.tar/a.jpg".to_owned(), Ok(b"one".to_vec())),
            (
                format!("s.tar/{}", long.replace("//", "/")),
                Ok(vec![7; 2000]),
            ),
            ("s.tar/c.WEBP".to_owned(), Ok(Vec::new())),
        ];
        assert_eq!(found(&bytes), expected);
    }

    #[test]
    fn a_damaged_archive_gives_what_lies_before_the_damage() {
        let bytes = tar(&[("a.jpg", &[1; 600]), ("b.jpg", &[2; 600])]);
        // Each has a header of 512 bytes and 1024 bytes of contents.
        let cut = found(&bytes[..512 + 1024 + 512 + 100]);
        assert_eq!(cut[0], ("s.tar/a.jpg".to_owned(), Ok(vec![1; 600])));
        assert_eq!(cut[1].0, "s.tar/b.jpg");
        assert!(cut[1].1.as_ref().unwrap_err().contains("ends within it"));
        let cut = found(&bytes[..512 + 1024 + 100]);
        assert_eq!((cut.len(), cut[1].0.as_str()), (2, "s.tar"));
        assert!(cut[1].1.as_ref().unwrap_err().contains("damaged"));
        let cut = found(&[b'x'; 2000]);
        assert_eq!((cut.len(), cut[0].0.as_str()), (1, "s.tar"));
    }

    #[test]
    fn a_member_that_says_it_is_huge_takes_no_memory() {
        let mut header = tar::Header::new_gnu();
        header.set_path("a.jpg").unwrap();
        header.set_size(1 << 50);
        header.set_cksum();
        let found = found(header.as_bytes());
        assert!(
            found[0].1.as_ref().unwrap_err().contains("bytes"),
            "{found:?}"
        );
    }
}
