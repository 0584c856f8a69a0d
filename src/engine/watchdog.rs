//! What must happen at its time, whatever the model is doing: deadlines, clients that left, and
//! steps that hang.

use std::time::{Duration, Instant};

use super::shared::Shared;

/// How often the watchdog looks while there is something to watch.
const TICK: Duration = Duration::from_millis(50);

/// Retires sequences that are over, also in the middle of a step, and gives the engine up when a
/// step takes longer than `step_timeout`: a thread that hangs can't be ended, so the process has to
/// be. Sleeps while the engine is idle; returns when it has ended.
pub(super) fn run(shared: &Shared, step_timeout: Duration) {
    let mut inner = shared.lock();
    while !inner.ended {
        let now = Instant::now();
        if let Some(began) = inner.step_began
            && now - began >= step_timeout
        {
            drop(inner);
            let reason = format!(
                "a step of the model has not ended after {step_timeout:?} (step_timeout): it hangs"
            );
            tracing::error!(
                reason,
                "the model is given up; the process must be started again"
            );
            return shared.fail(&reason);
        }
        drop(inner);
        shared.retire(now);
        inner = shared.lock();
        let idle = inner.scheduler.is_empty() && inner.step_began.is_none();
        inner = shared.wait(inner, (!idle).then_some(TICK));
    }
}
