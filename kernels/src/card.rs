//! What a GPU is.

use candle_core::Result;

use super::cuda;

/// A GPU, as its driver describes it.
#[derive(Debug, Clone)]
pub struct Card {
    pub name: String,
    /// The newest CUDA that the driver speaks, such as 13.0.
    pub driver: String,
    /// Such as 9.0.
    pub capability: String,
    /// The least capability that this binary can use.
    pub needs: String,
    pub free_bytes: usize,
    pub bytes: usize,
}

/// The GPU with this number.
///
/// # Errors
/// When it is not there, or this binary was built without CUDA.
pub fn card(gpu: usize) -> Result<Card> {
    cuda::card(gpu)
}
