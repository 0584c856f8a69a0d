//! What the server tells its operators.

pub mod metrics;
