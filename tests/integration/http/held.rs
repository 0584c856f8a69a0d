//! Bringing a held model to a certain place, without blocking the test's other futures.

use std::sync::Arc;

use paligemma_test_support::toy_model::{Control, Work};

pub fn is_prefill(work: &Work) -> bool {
    matches!(work, Work::Step { prefill, .. } if !prefill.is_empty())
}

pub fn is_decode(work: &Work) -> bool {
    matches!(work, Work::Step { decode, .. } if !decode.is_empty())
}

/// Lets the model work until it is asked for what `wanted` says, which it then has not begun.
pub async fn run_until(control: &Arc<Control>, wanted: fn(&Work) -> bool) {
    let control = control.clone();
    let run = move || control.run_until(wanted);
    tokio::task::spawn_blocking(run).await.unwrap();
}

/// Lets the model decode so many times.
pub async fn decode(control: &Arc<Control>, steps: usize) {
    for _ in 0..steps {
        run_until(control, is_decode).await;
        control.allow_one();
    }
}
