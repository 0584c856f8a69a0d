//! The stages of a request before the engine's queue.

use std::time::Instant;

use metrics::{describe_gauge, describe_histogram, gauge, histogram};

use super::catalogue::{PREPARING, PREPARING_SECONDS, VLLM_WAITING};
use crate::telemetry::traces::RequestTrace;

/// Where a request, or one of its images, stands before the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its body is on the way.
    Receiving,
    /// Its image is fetched from another host.
    Fetching,
    /// Its image waits for a decoder and for memory.
    Waiting,
    /// Its image is decoded and resized.
    Decoding,
}

impl Stage {
    const ALL: [Self; 4] = [
        Self::Receiving,
        Self::Fetching,
        Self::Waiting,
        Self::Decoding,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Fetching => "fetching",
            Self::Waiting => "waiting",
            Self::Decoding => "decoding",
        }
    }

    fn span_name(self) -> &'static str {
        match self {
            Self::Receiving => "receive",
            Self::Fetching => "fetch",
            Self::Waiting => "wait for a decoder",
            Self::Decoding => "decode image",
        }
    }
}

/// Counts as being in a stage until it is dropped, and is a span of the request's trace then.
#[derive(Debug)]
pub struct Preparing {
    stage: Stage,
    begun: Instant,
    trace: RequestTrace,
}

impl Preparing {
    /// The stage begins for the request that this task works for.
    pub fn new(stage: Stage) -> Self {
        Self::of(RequestTrace::current(), stage)
    }

    /// This stage is over, and the same request begins another one.
    pub fn next(self, stage: Stage) -> Self {
        let trace = self.trace.clone();
        drop(self);
        Self::of(trace, stage)
    }

    fn of(trace: RequestTrace, stage: Stage) -> Self {
        gauge!(PREPARING.0, "stage" => stage.name()).increment(1.0);
        gauge!(VLLM_WAITING.0).increment(1.0);
        Self {
            stage,
            begun: Instant::now(),
            trace,
        }
    }
}

impl Drop for Preparing {
    fn drop(&mut self) {
        let now = Instant::now();
        self.trace.stage(self.stage.span_name(), self.begun, now);
        let stage = self.stage.name();
        gauge!(PREPARING.0, "stage" => stage).decrement(1.0);
        gauge!(VLLM_WAITING.0).decrement(1.0);
        histogram!(PREPARING_SECONDS.0, "stage" => stage).record(now - self.begun);
    }
}

/// Describes and registers the series of every stage.
pub(super) fn register() {
    describe_gauge!(PREPARING.0, PREPARING.1);
    describe_histogram!(PREPARING_SECONDS.0, PREPARING_SECONDS.1);
    for stage in Stage::ALL {
        gauge!(PREPARING.0, "stage" => stage.name()).set(0.0);
        let _registered = histogram!(PREPARING_SECONDS.0, "stage" => stage.name());
    }
}
