//! The text in a picture.

/// The prompt that asks for it.
pub const PROMPT: &str = "ocr";
