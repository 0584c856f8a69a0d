//! Rotary position embedding (Su et al., arXiv 2104.09864), rotate-half layout as in Gemma.

use candle_core::{DType, Device, Result, Tensor};

use crate::kernels::rotate;

/// Cosines and sines of every position, in the dtype of the hidden states.
#[derive(Debug)]
pub struct RopeTable {
    cos: Tensor,
    sin: Tensor,
}

/// The rows of a [`RopeTable`] that some packed tokens need, `[rows, head_dim / 2]` each.
#[derive(Debug, Clone)]
pub struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl RopeTable {
    /// Angles `position · theta^(-2i / head_dim)` for positions `0..positions`; `dtype` is that of
    /// the hidden states.
    pub fn new(
        positions: usize,
        head_dim: usize,
        theta: f64,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let frequencies: Vec<f32> = (0..head_dim / 2)
            .map(|i| (1.0 / theta.powf(2.0 * i as f64 / head_dim as f64)) as f32)
            .collect();
        let frequencies = Tensor::from_vec(frequencies, (1, head_dim / 2), device)?;
        // In f32: bf16 can't tell position 256 from 257.
        let angles = Tensor::arange(0u32, positions as u32, device)?
            .to_dtype(DType::F32)?
            .reshape((positions, 1))?
            .broadcast_mul(&frequencies)?;
        Ok(Self {
            cos: angles.cos()?.to_dtype(dtype)?,
            sin: angles.sin()?.to_dtype(dtype)?,
        })
    }

    /// The angles for packed tokens at `positions`, 0-based.
    ///
    /// The reference counts from 1; only differences of positions matter to attention.
    pub fn at(&self, positions: &[u32]) -> Result<Rope> {
        self.at_rows(&Tensor::new(positions, self.cos.device())?)
    }

    /// The same for positions u32 `[rows]` that the device has already.
    pub fn at_rows(&self, positions: &Tensor) -> Result<Rope> {
        Ok(Rope {
            cos: self.cos.index_select(positions, 0)?,
            sin: self.sin.index_select(positions, 0)?,
        })
    }
}

impl Rope {
    /// The angles of `self`'s tokens followed by those of `other`'s.
    pub fn followed_by(&self, other: &Rope) -> Result<Rope> {
        Ok(Rope {
            cos: Tensor::cat(&[&self.cos, &other.cos], 0)?,
            sin: Tensor::cat(&[&self.sin, &other.sin], 0)?,
        })
    }

    /// Copies the angles of as many other tokens to where these are.
    pub(super) fn overwrite(&self, other: &Self) -> Result<()> {
        self.cos.slice_set(&other.cos, 0, 0)?;
        self.sin.slice_set(&other.sin, 0, 0)
    }

    /// Cosines and sines, `[rows, head_dim / 2]` each.
    pub(super) fn angles(&self) -> (&Tensor, &Tensor) {
        (&self.cos, &self.sin)
    }

    /// Rotates queries or keys `[rows, heads, head_dim]`, which may be parts of wider rows.
    pub fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        rotate(x, &self.cos, &self.sin)
    }
}
