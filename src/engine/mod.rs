//! The engine: one bounded queue, one scheduler, one thread that owns the model.

mod generation;

pub use generation::{
    Event, Failure, FinishReason, Generation, Request, Sampling, Summary, Timings, TokenInfo,
    TopLogprob, Usage,
};
