//! The engine: one bounded queue, one scheduler, one thread that owns the model.
//!
//! A request goes through [`EngineHandle::submit`] into the queue of the `scheduler`, from there in
//! a `wave` through the vision tower and the prefill, and then decodes, a token a step, together
//! with all others. `answer` is the request on that way.

mod answer;

mod generation;
mod handle;
mod image_cache;
mod options;
mod pace;
mod sampler;
mod scheduler;
mod shared;
mod stop;
mod wave;
mod worker;

pub use generation::{
    Event, Failure, FinishReason, Generation, MaxTokens, Request, Sampling, Summary, Timings,
    TokenInfo, TopLogprob, Usage,
};
pub use handle::EngineHandle;
pub use options::{EngineOptions, State, SubmitError};
