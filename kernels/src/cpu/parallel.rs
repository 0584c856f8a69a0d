//! Work on all cores.

use rayon::prelude::*;

use super::isa::{Isa, Work};

/// Multiplications below which other threads are not worth waking.
const ALONE: usize = 1 << 18;
/// Tasks for each thread: several, so that a late thread holds nobody up.
const TASKS_PER_THREAD: usize = 8;

/// Computes all `parts` of `work`, on all threads if it costs as much as so many multiplications.
pub fn in_parallel<I: Isa, W: Work<I>>(work: &W, parts: usize, cost: usize) {
    if cost < ALONE || parts < 2 {
        // SAFETY: the processor has the instructions, or `dispatch!` would not have come here; each
        // part is computed once.
        return unsafe { I::enter(work, 0..parts) };
    }
    let share = parts.div_ceil(TASKS_PER_THREAD * rayon::current_num_threads());
    (0..parts.div_ceil(share))
        .into_par_iter()
        .with_max_len(1)
        // SAFETY: as above.
        .for_each(|task| unsafe { I::enter(work, task * share..parts.min((task + 1) * share)) });
}
