//! The tokens of a request, for its log line.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::Extensions;

use crate::engine::{Generation, Usage, UsageMeter};

/// The tokens of a request's generations as they stand, whether these end well or not. Clones share
/// them.
#[derive(Debug, Clone, Default)]
pub struct RequestUsage(Arc<Mutex<Vec<UsageMeter>>>);

impl RequestUsage {
    /// The one that the outermost layer has put into the extensions.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// These are generations of the request, beside those that it had before.
    pub fn follow(&self, generations: &[Generation]) {
        let meters = generations.iter().map(|generation| &generation.usage);
        self.meters().extend(meters.cloned());
    }

    /// The sum by now; `None` without generations.
    pub fn total(&self) -> Option<Usage> {
        let add = |sum: Usage, usage: Usage| Usage {
            image_tokens: sum.image_tokens + usage.image_tokens,
            prompt_tokens: sum.prompt_tokens + usage.prompt_tokens,
            completion_tokens: sum.completion_tokens + usage.completion_tokens,
        };
        self.meters().iter().map(UsageMeter::read).reduce(add)
    }

    /// A panic while this was locked leaves nothing half done, so poison is ignored.
    fn meters(&self) -> MutexGuard<'_, Vec<UsageMeter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
