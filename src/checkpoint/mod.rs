//! A checkpoint's files: its configuration as it stands there, and its weights a tensor at a time.
//! What they mean is a model's business.

pub mod adapter;
mod bitsandbytes;
mod content_hash;
mod error;
mod files;
mod finite;
pub mod foreign;
pub mod raw;
mod stored;
mod weight;
mod weights;

pub use adapter::Adapter;
pub use error::CheckpointError;
pub use files::Checkpoint;
pub use weights::WeightFiles;
