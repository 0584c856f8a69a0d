//! What the scheduler adds to a step of the model: it has to stay below 50 µs.

use divan::{Bencher, black_box};
use paligemma_server::engine::{Limits, Scheduler};

/// One step while eight sequences decode and so many wait: retire who left, plan, and report.
#[divan::bench(args = [0, 100, 10_000])]
fn step_with_waiting(bencher: Bencher, waiting: usize) {
    let mut scheduler = Scheduler::new(Limits {
        slots: 8,
        queue: waiting,
        prefill_batch_tokens: 10_000,
    });
    let sequences: Vec<(u32, usize)> = (0..8 + waiting as u32).map(|id| (id, 260)).collect();
    scheduler
        .submit(sequences.into_iter())
        .expect("the queue is as long as that");
    scheduler.plan();
    scheduler.finish_prefill();
    bencher.bench_local(|| {
        let over = |id: &u32| black_box(*id) == u32::MAX;
        let retired = scheduler.retire_running(over).len() + scheduler.retire_waiting(over).len();
        (retired, scheduler.plan(), scheduler.queued())
    });
}
