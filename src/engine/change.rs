//! Changes of the resident adapters, which the model's thread makes between two steps.

use tokio::sync::oneshot;

use super::shared::Inner;
use crate::models::{AdapterId, Adapters, Resident};

/// A change that waits for its turn.
pub(super) enum Change {
    /// Makes an adapter resident, and lists it.
    Add {
        resident: Resident,
        list: Adapters,
        /// Told the bytes that it takes, or why it can't be.
        done: oneshot::Sender<Result<usize, String>>,
    },
    /// Lets go of an adapter once no request needs it.
    Remove {
        id: AdapterId,
        done: oneshot::Sender<()>,
    },
}

impl Inner {
    /// Takes the first change whose turn has come.
    pub(super) fn next_change(&mut self) -> Option<Change> {
        let ready = |change: &Change| match change {
            Change::Add { .. } => true,
            Change::Remove { id, .. } => {
                let mut all = self.scheduler.waiting().chain(self.scheduler.running());
                !all.any(|sequence| sequence.is_of(*id))
            }
        };
        let index = self.changes.iter().position(ready)?;
        self.changes.remove(index)
    }
}
