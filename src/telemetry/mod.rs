//! What operators see: log lines, metrics and traces.

pub mod load_progress;
pub mod logging;
pub mod metrics;
pub mod progress;
pub mod traces;
