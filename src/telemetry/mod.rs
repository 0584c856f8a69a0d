//! What operators see: log lines and metrics.

pub mod load_progress;
pub mod logging;
pub mod metrics;
pub mod progress;
