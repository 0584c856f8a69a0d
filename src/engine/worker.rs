//! The loop of the thread that owns the model: plan, execute, deliver.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::Failure;
use super::change::Change;
use super::executor::{Executor, StepInput, StepResult};
use super::output::Next;
use super::prefill_batch::NewSequence;
use super::sequence::{Sequence, SharedOutput};
use super::shared::{Inner, Shared};
use crate::models::{DecodeRow, Model, reason};
use crate::telemetry::metrics;

/// Works until the engine is closed and everything is answered.
///
/// # Errors
/// Why a step failed.
pub(super) fn run<M: Model>(shared: &Shared, executor: &mut Executor<M>) -> Result<(), String> {
    while let Some(work) = next_work(shared) {
        match work {
            Work::Change(change) => make(change, executor),
            Work::Step(input) => {
                let (batch, began) = (input.decode.len(), Instant::now());
                let result = executor.step(input);
                let result = result.map_err(|error| executor.explain(reason(&error)))?;
                deliver(shared, result);
                metrics::step(batch, began.elapsed());
            }
        }
    }
    Ok(())
}

/// What the model's thread does next.
enum Work {
    Step(StepInput),
    Change(Change),
}

/// Changes the resident adapters. Nobody may wait any more to hear of it.
fn make<M: Model>(change: Change, executor: &mut Executor<M>) {
    match change {
        Change::Add {
            resident,
            list,
            done,
        } => {
            let added = executor.add_adapter(&resident);
            let listed = added.and_then(|bytes| match list.insert(resident) {
                Ok(()) => Ok(bytes),
                Err(resident) => {
                    executor.remove_adapter(resident.id);
                    Err(format!("there is an adapter called {}", resident.name))
                }
            });
            let _ = done.send(listed);
        }
        Change::Remove { id, done } => {
            executor.remove_adapter(id);
            let _ = done.send(());
        }
    }
}

/// Turns a panic into an error.
pub(super) fn catch<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // What a panic may leave half changed is the model, which is then built anew.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panic_text(&*panic)))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a message"))
}

/// Retires sequences that are over and returns what to do next. Blocks while idle; returns `None`
/// after shutdown.
fn next_work(shared: &Shared) -> Option<Work> {
    shared.lock().step_began = None;
    loop {
        let now = Instant::now();
        shared.retire(now);
        let mut inner = shared.lock();
        if inner.ended {
            return None;
        }
        if inner.is_past_closing(now) {
            drop(inner);
            shared.abort_remaining();
            inner = shared.lock();
        }
        if let Some(change) = inner.next_change() {
            inner.step_began = Some(now);
            return Some(Work::Change(change));
        }
        if let Some(input) = plan(&mut inner) {
            inner.step_began = Some(now);
            inner.report_load();
            return Some(Work::Step(input));
        }
        if inner.closing {
            return None;
        }
        inner.vacancies.idle();
        drop(shared.wait(inner, None));
    }
}

/// Copies what the next step needs to know, so that it runs without the lock.
fn plan(inner: &mut Inner) -> Option<StepInput> {
    let plan = inner.scheduler.plan()?;
    let new = |slot: &usize| {
        let sequence = inner.scheduler.get_mut(*slot)?;
        Some(NewSequence {
            slot: *slot,
            image: sequence.image.clone(),
            adapter: sequence.adapter,
            prompt: sequence.prompt.clone(),
            generated: sequence.generated.clone(),
            output: sequence.output.clone(),
        })
    };
    let start = plan.start.iter().filter_map(new).collect();
    let row = |slot: &usize| {
        let sequence = inner.scheduler.get_mut(*slot)?;
        Some((sequence.decode_row(*slot)?, sequence.output.clone()))
    };
    let decode: Vec<(DecodeRow, SharedOutput)> = plan.decode.iter().filter_map(row).collect();
    Some(StepInput {
        start,
        prefill: plan.prefill,
        decode,
    })
}

/// Hands out the tokens that follow from a step. A slot is freed before its client is told, so
/// that the client's next request finds one.
fn deliver(shared: &Shared, result: StepResult) {
    let now = Instant::now();
    let accept = |(slot, output, row): &(usize, SharedOutput, _)| {
        let next = catch(|| Ok(output.lock().accept(row, now)));
        (
            *slot,
            next.unwrap_or_else(|reason| Err(Failure::Model(reason))),
        )
    };
    let accepted: Vec<_> = result.rows.iter().map(accept).collect();

    let mut ended: Vec<(Sequence, Result<_, Failure>)> = Vec::new();
    let mut inner = shared.lock();
    if result.prefill_done {
        inner.scheduler.finish_prefill();
    }
    for (slot, next) in accepted {
        let end = match next {
            Ok(Next::Token(id)) => {
                // Nobody is there when the client left during the step.
                if let Some(sequence) = inner.scheduler.get_mut(slot) {
                    sequence.generated.push(id);
                }
                continue;
            }
            Ok(Next::Finished(reason)) => Ok(reason),
            Err(failure) => Err(failure),
        };
        ended.extend(inner.release(slot, now).map(|sequence| (sequence, end)));
    }
    inner.report_load();
    drop(inner);
    for (sequence, end) in ended {
        let mut output = sequence.output.lock();
        match end {
            Ok(reason) => output.finish(reason, now),
            Err(failure) => output.fail(failure),
        }
    }
}
