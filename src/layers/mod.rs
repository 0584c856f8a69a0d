//! What models are made of: each layer takes packed rows and the [`Batch`] that describes them.
//!
//! The hidden states of everything that runs in one step are packed into `[total rows, hidden]`,
//! whole prefixes and single decoding tokens one after the other and nothing padded; only
//! [`attention`] looks at a sequence by itself. The layers are coarse enough for a back end to fuse
//! what they do.

mod adapters;
mod attention;
mod batch;
mod gated_mlp;
mod kv_cache;
mod linear;
mod norm;
mod rope;
mod weights;

pub use adapters::{AdapterId, AdapterRows, Addition};
pub use attention::{Attention, AttentionShape, ImageAttention, Queries};
pub use batch::{Batch, ContinuedMasks, PrefixRows};
pub use gated_mlp::GatedMlp;
pub use kv_cache::{CacheShape, DecodeLayout, DecodeRow, KvCache, LayerCache};
pub use linear::Linear;
pub use norm::{LayerNorm, RmsNorm};
pub use rope::{Rope, RopeTable};
pub use weights::Weights;
