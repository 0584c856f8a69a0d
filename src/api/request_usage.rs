//! The tokens of a request, for its log line.

use std::sync::{Arc, OnceLock};

use axum::http::Extensions;

use crate::engine::{Generation, Usage, UsageMeter};

/// The tokens of a request's generations as they stand, whether these end well or not. Clones share
/// them.
#[derive(Debug, Clone, Default)]
pub struct RequestUsage(Arc<OnceLock<Vec<UsageMeter>>>);

impl RequestUsage {
    /// The one that the outermost layer has put into the extensions.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// These are the request's generations. Only the first call counts: a request submits once.
    pub fn follow(&self, generations: &[Generation]) {
        let meters = generations.iter().map(|generation| &generation.usage);
        self.0.get_or_init(|| meters.cloned().collect());
    }

    /// The sum by now; `None` without generations.
    pub fn total(&self) -> Option<Usage> {
        let add = |sum: Usage, usage: Usage| Usage {
            image_tokens: sum.image_tokens + usage.image_tokens,
            prompt_tokens: sum.prompt_tokens + usage.prompt_tokens,
            completion_tokens: sum.completion_tokens + usage.completion_tokens,
        };
        self.0.get()?.iter().map(UsageMeter::read).reduce(add)
    }
}
