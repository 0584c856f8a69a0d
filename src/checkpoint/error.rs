//! What can be wrong with a checkpoint, told to whoever pointed the server at it.

use std::path::PathBuf;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum CheckpointError {
    #[error(
        "{0}: there is no such folder; --model takes a folder or a hub id such as google/paligemma2-3b-mix-224"
    )]
    NoFolder(PathBuf),

    #[error(
        "{path}: the file is missing; a checkpoint has config.json, tokenizer.json and model.safetensors, or shards and model.safetensors.index.json"
    )]
    MissingFile { path: PathBuf },

    #[error("{path}: is no regular file")]
    NotAFile { path: PathBuf },

    #[error("{path}: cannot be read: {error}")]
    Unreadable {
        path: PathBuf,
        error: std::io::Error,
    },

    #[error("{path}: is not valid JSON for this file: {error}")]
    Json {
        path: PathBuf,
        error: serde_json::Error,
    },

    #[error("{path}: {field} is {value}; {allowed}")]
    Config {
        path: PathBuf,
        field: &'static str,
        value: String,
        allowed: String,
    },

    #[error("{path}: the tokenizer cannot be used: {reason}")]
    Tokenizer { path: PathBuf, reason: String },

    #[error(
        "{path}: the file is cut off or damaged: its {found} bytes are not what its header describes; fetch it again"
    )]
    Truncated { path: PathBuf, found: usize },

    #[error("{path}: is not a safetensors file: {reason}", reason = escaped(reason))]
    Safetensors { path: PathBuf, reason: String },

    #[error(
        "tokenizer.json has {tokens} tokens, and config.json's text_config.vocab_size has rows for {rows} only; resize the model's token embeddings to the tokenizer and save it again"
    )]
    MoreTokensThanRows { tokens: usize, rows: usize },

    #[error(
        "{path}: cannot be used as a mask decoder: {reason}; PaliGemma's is called vae-oid.npz",
        reason = escaped(reason)
    )]
    MaskDecoder { path: PathBuf, reason: String },

    /// It is something else than a PaliGemma in the Hugging Face layout.
    #[error("{path} {reason}", reason = escaped(reason))]
    Foreign { path: PathBuf, reason: String },

    #[error("the weights cannot be loaded: {}", escaped(.0))]
    Weights(String),
}

/// `text` in one line. Names in files may hold line breaks, with which a log could be forged.
pub fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}
