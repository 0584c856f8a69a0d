//! The engine decides and streams as it promises, whatever its clients and its model do.

mod bench;

mod cancellation;
mod failures;
mod goldens;
mod recovery;
mod recovery_goldens;
mod sharing;
mod submission;
mod text;
