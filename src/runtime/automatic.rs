//! What a setting of `auto` means on this machine and for this model. The number of slots is in
//! [`super::memory`].

use std::thread::available_parallelism;
use std::time::Duration;

use crate::kernels::Placement;
use crate::models::Pretrained;
use crate::settings::{Settings, SettingsError};

/// How much longer a stream may wait for its next token. On a CPU tokens then still come about as fast
/// as people read; on a GPU many layers fit into a gap that nobody notices.
const TOKEN_GAP_CPU: Duration = Duration::from_millis(250);
const TOKEN_GAP_GPU: Duration = Duration::from_millis(50);

/// Tokens that are prefilled together. A row of a product costs a CPU the same from about 256 rows on; a
/// GPU is only busy with thousands.
const BATCH_TOKENS_CPU: usize = 512;
const BATCH_TOKENS_GPU: usize = 4096;

/// Images decoded at a time: on a CPU, whose cores are the model's, so many; beside a GPU as many as
/// there are cores, but no more than an H100 can use.
const DECODE_THREADS_CPU: usize = 2;
const DECODE_THREADS_GPU: usize = 16;

/// Tokens of prompt and answer that a slot has room for beside its image.
const TEXT_TOKENS: usize = 512;

/// How much longer a stream may wait for its next token.
pub(super) fn token_gap(settings: &Settings, placement: Placement) -> Duration {
    settings.max_token_gap.unwrap_or(match placement.gpu {
        Some(_) => TOKEN_GAP_GPU,
        None => TOKEN_GAP_CPU,
    })
}

/// Tokens that are prefilled together.
pub(super) fn batch_tokens(settings: &Settings, placement: Placement) -> usize {
    settings
        .prefill_batch_tokens
        .unwrap_or(match placement.gpu {
            Some(_) => BATCH_TOKENS_GPU,
            None => BATCH_TOKENS_CPU,
        })
}

/// Images decoded at the same time.
pub(super) fn decode_threads(settings: &Settings, placement: Placement) -> usize {
    let cores = available_parallelism().map_or(DECODE_THREADS_CPU, usize::from);
    settings.decode_threads.unwrap_or(match placement.gpu {
        Some(_) => cores.min(DECODE_THREADS_GPU),
        None => DECODE_THREADS_CPU,
    })
}

/// Tokens that one slot holds.
///
/// # Errors
/// When the settings' number leaves no room beside this model's image, or is beyond its positions.
pub(super) fn context(
    settings: &Settings,
    pretrained: &Pretrained,
) -> Result<usize, SettingsError> {
    let image = pretrained.config.image_tokens();
    // The shortest prompt is <bos> and a newline, the shortest answer one token.
    let least = image + 3;
    let most = pretrained.config.text.max_position_embeddings;
    let tokens = match settings.context {
        None => (image + TEXT_TOKENS).min(most),
        Some(tokens) => tokens,
    };
    if (least..=most).contains(&tokens) {
        return Ok(tokens);
    }
    Err(SettingsError::ForModel {
        key: "context",
        value: tokens.to_string(),
        allowed: format!(
            "auto, or {least} (an image alone takes {image} tokens) to {most} (the model's positions)"
        ),
    })
}
