//! Tasks: what PaliGemma has to be asked, word for word, and what its answers mean.
//!
//! The checkpoints were trained on exactly these prefixes (arXiv 2407.07726, appendix B, and the
//! model cards). Each module holds what several callers share: the routes, `annotate` and `ask`. All
//! of it is text in, text out. A prompt that one route alone asks stands in that route's file.

pub mod bounding_box;
pub mod caption;
pub mod detection;
pub mod detection_parser;
pub mod ocr;
pub mod vqa;

/// The language that a task is asked in unless the user names another.
pub const DEFAULT_LANGUAGE: &str = "en";

/// True when `language` has the form of a language code as PaliGemma's prompts spell them: `en`,
/// `zh-Hant`, `pt-br`.
///
/// Whether the checkpoint was trained on that language is for the user to know.
pub fn is_language_code(language: &str) -> bool {
    let mut subtags = language.split('-');
    let primary = subtags.next().unwrap_or_default();
    (2..=3).contains(&primary.len())
        && primary.bytes().all(|byte| byte.is_ascii_alphabetic())
        && subtags.all(|subtag| {
            (1..=8).contains(&subtag.len())
                && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}

/// `text` on one line.
///
/// A newline ends PaliGemma's prefix, so one inside it would be read as the end of the prompt.
pub fn one_line(text: &str) -> String {
    text.split(['\n', '\r'])
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn language_codes_have_a_primary_subtag_and_optional_others() {
        for code in ["en", "de", "zh-Hant", "pt-br", "fil"] {
            assert!(is_language_code(code), "{code}");
        }
        for other in [
            "",
            "e",
            "english",
            "en ",
            "en-",
            "e1",
            "en\nanswer",
            "en--us",
        ] {
            assert!(!is_language_code(other), "{other}");
        }
    }
}
