//! Errors of fetching a checkpoint.

use std::path::PathBuf;

use bytesize::ByteSize;

/// Why a checkpoint could not be fetched, for the person who starts the server.
///
/// Messages never repeat the hub's response, because a body could echo the token and a URL could be
/// signed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error(
        "`{id}` is not a hub id: expected `owner/name` (letters, digits, `-`, `_` and `.`), for example `google/paligemma2-3b-mix-224`"
    )]
    InvalidId { id: String },

    #[error("`{revision}` is not a revision: expected a branch, a tag or a commit hash")]
    InvalidRevision { revision: String },

    #[error(
        "`{endpoint}` is not a usable hub address ({reason}): set HF_ENDPOINT to one like `https://huggingface.co`, or unset it"
    )]
    InvalidEndpoint { endpoint: String, reason: String },

    #[error(
        "the token in HF_TOKEN (or in the login file) holds invalid characters: copy it again from https://huggingface.co/settings/tokens"
    )]
    InvalidToken,

    #[error(
        "the hub requires a token for `{id}` ({status}), and no token was given: accept the licence at https://huggingface.co/{id} and set HF_TOKEN to a token of that account"
    )]
    TokenNeeded { id: String, status: u16 },

    #[error(
        "the hub refused the given token for `{id}` ({status}): accept the licence at https://huggingface.co/{id} and set HF_TOKEN to a token of that account that is still valid and may read gated repositories"
    )]
    TokenRefused { id: String, status: u16 },

    #[error(
        "{endpoint} has no model `{id}` with revision `{revision}`: check both names; a private repository also answers 404 without access, so if it is private, set HF_TOKEN"
    )]
    NotFound {
        endpoint: String,
        id: String,
        revision: String,
    },

    #[error(
        "`{id}` at revision `{revision}` has no {file}, which the server needs: choose a repository in the Hugging Face layout, with safetensors weights"
    )]
    MissingFile {
        id: String,
        revision: String,
        file: String,
    },

    #[error("`{id}` {reason}")]
    Foreign { id: String, reason: String },

    #[error("the shard index {} can't be used: {reason}", path.display())]
    BadShardIndex { path: PathBuf, reason: String },

    #[error(
        "HF_HUB_OFFLINE is set, and `{id}` at revision `{revision}` lacks {missing} in the cache {}: unset HF_HUB_OFFLINE once to fetch it, or set HF_HOME to a cache that has it", cache_dir.display()
    )]
    Offline {
        id: String,
        revision: String,
        missing: String,
        cache_dir: PathBuf,
    },

    #[error(
        "no usable response from the hub at {endpoint} ({reason}): check the network, proxy and HF_ENDPOINT, then start again"
    )]
    Unreachable { endpoint: String, reason: String },

    #[error("unexpected response from the hub at {endpoint}: {what}")]
    UnexpectedAnswer { endpoint: String, what: String },

    #[error(
        "the connection was cut while fetching {file} of `{id}`, after {done} of {total}, and {attempts} retries made no progress ({reason}): start again to resume"
    )]
    Cut {
        id: String,
        file: String,
        done: ByteSize,
        total: ByteSize,
        attempts: u32,
        reason: String,
    },

    #[error(
        "{file} of `{id}` has the wrong size: the hub announced {expected} bytes and sent {got}; the file was deleted; start again, and if this repeats, check HF_ENDPOINT and proxies"
    )]
    WrongSize {
        id: String,
        file: String,
        expected: u64,
        got: u64,
    },

    #[error("can't {action} {}: {error}", path.display())]
    Disk {
        action: &'static str,
        path: PathBuf,
        error: std::io::Error,
    },
}
