//! The engine: one bounded queue, one scheduler, one thread that owns the model.
//!
//! A request goes through [`EngineHandle::submit`] and becomes a `sequence`, which the `scheduler`
//! owns: first in its queue, then in a slot. There it goes in a `prefill_batch` through the vision
//! tower and the prefill, and then decodes, a token per step, together with all others. The
//! `worker`'s loop asks the scheduler for a plan, has the `executor` run it on the model, and lets
//! each sequence's `output` turn the logits into text and events. The `supervisor` builds the
//! model, and builds it again when it fails; the `watchdog` sees to deadlines and to steps that
//! hang.
//!
//! The one reason for most of this: **PaliGemma's prefix is bidirectional**, every token of it
//! attends to all of it. So a prefill can't be cut by tokens, as other servers do it; it is cut by
//! layers, and between two slices everyone who is streaming gets a token. How many layers fit into
//! the time between two tokens, the `cost_model` tells from what steps have cost so far.

mod change;
mod cost_model;
mod executor;
mod generation;
mod handle;
mod image_cache;
mod options;
mod out_of_memory;
mod output;
mod prefill_batch;
mod sampler;
mod scheduler;
mod sequence;
mod shared;
mod stop;
mod supervisor;
mod trace;
mod vacancies;
mod watchdog;
mod worker;

pub use crate::kernels::{Logprobs, Neighbours};
pub use generation::{
    Answerer, Event, Failure, FinishReason, Generation, MaxTokens, Request, Sampling, Summary,
    Timings, TokenInfo, TopLogprob, Usage, UsageMeter,
};
pub use handle::EngineHandle;
pub use options::{EngineOptions, State, SubmitError};
pub use scheduler::{Limits, Plan, QueueFull, Scheduler};
pub use vacancies::Vacancies;
