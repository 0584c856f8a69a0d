//! The engine decides and streams as it promises, whatever its clients and its model do.

#[allow(dead_code, reason = "the model's own test reads more of it")]
#[path = "../support/golden.rs"]
mod golden;
#[path = "../support/toy_model.rs"]
mod toy_model;

mod bench;

mod cancellation;
mod failures;
mod goldens;
mod recovery;
mod sharing;
mod submission;
mod text;
