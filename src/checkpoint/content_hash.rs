//! What tells one checkpoint's weights from another's.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use blake3::Hasher;

use super::files::WeightBytes;
use super::weights::WeightFiles;

/// Bytes of a file that are in memory at a time.
const PART: usize = 256 << 20;

impl WeightFiles {
    /// A hash of every byte of the weights' files, in hexadecimal.
    ///
    /// Reading gigabytes takes its time, so `folder` remembers the hash of files that have not been
    /// changed since. A folder that can't be written is no error: the hash is then computed each
    /// time.
    pub fn content_hash(&self, folder: &Path) -> String {
        let known = self.state().map(|state| folder.join(state + ".hash"));
        let is_hash = |text: &String| {
            text.len() == 2 * blake3::OUT_LEN && text.bytes().all(|c| c.is_ascii_hexdigit())
        };
        let remembered = known
            .as_ref()
            .and_then(|path| std::fs::read_to_string(path).ok());
        if let Some(hash) = remembered.filter(is_hash) {
            return hash;
        }
        let hash = self.computed_hash();
        if let Some(path) = known {
            // A reader who meets half of it computes anew.
            let written =
                std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, &hash));
            if let Err(error) = written {
                tracing::warn!(path = %path.display(), %error, "the weights' hash can't be remembered");
            }
        }
        hash
    }

    fn computed_hash(&self) -> String {
        self.progress.stage("comparing with the cache");
        let bytes = self.files.iter().map(|file| file.len() as u64).sum();
        self.progress.expect(bytes);
        let mut hasher = Hasher::new();
        for file in &self.files {
            hasher.update(&(file.len() as u64).to_le_bytes());
            for (i, part) in file.chunks(PART).enumerate() {
                hasher.update_rayon(part);
                self.progress.advance(part.len() as u64);
                file.release(i * PART..i * PART + part.len());
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Changes whenever a file is written or replaced; `None` for weights that lie in no file.
    fn state(&self) -> Option<String> {
        let mut hasher = Hasher::new();
        for file in &self.files {
            let WeightBytes::Mapped { state: of, .. } = file.as_ref() else {
                return None;
            };
            let numbers = [
                of.dev() as i64,
                of.ino() as i64,
                of.size() as i64,
                of.mtime(),
                of.mtime_nsec(),
                of.ctime(),
                of.ctime_nsec(),
            ];
            hasher.update(numbers.map(i64::to_le_bytes).as_flattened());
        }
        Some(hasher.finalize().to_hex().to_string())
    }
}
