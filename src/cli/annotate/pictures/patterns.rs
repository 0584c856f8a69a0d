//! Which files are pictures: those with a picture's extension, or those that `--include` matches.

use std::path::Path;

use glob::{MatchOptions, Pattern};

use super::super::super::exit::UsageError;

/// File extensions of the supported formats.
const ENDINGS: [&str; 9] = [
    "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "jfif",
];

/// `*` doesn't match slashes, `**` does.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: false,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// The patterns of `--include`.
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// # Errors
    /// When one is invalid.
    pub fn new(include: &[String]) -> Result<Self, UsageError> {
        let patterns = include.iter().map(|text| {
            Pattern::new(text).map_err(|error| UsageError(format!("--include {text}: {error}")))
        });
        patterns.collect::<Result<_, _>>().map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a file is a picture to label, by its path in its folder or archive.
    pub fn select(&self, path: &str) -> bool {
        match self.is_empty() {
            true => is_picture(path),
            false => self.matches(path),
        }
    }

    fn matches(&self, path: &str) -> bool {
        let mut patterns = self.0.iter();
        patterns.any(|pattern| pattern.matches_with(path, MATCHING))
    }

    /// Whether a file that is named itself is to be labelled: any is, unless there are patterns.
    pub fn select_named(&self, path: &str) -> bool {
        self.is_empty() || self.matches(path)
    }
}

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
