//! The decoder of segmentation masks: 16 codes become a small picture.
//!
//! It is the decoder of the VQ-VAE that PaliGemma's `<seg>` tokens come from (big_vision's
//! `vae-oid`, arXiv 2407.07726, section 3.3), with the names of its published file: a codebook, a
//! 1 × 1 convolution, two residual blocks, four transposed convolutions, and a 1 × 1 convolution.

use candle_core::{Device, Result, Tensor};
use candle_nn::{
    Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig, Module, VarBuilder,
    conv_transpose2d, conv2d,
};

/// Width and height of a decoded mask, in values.
pub const MASK_SIDE: usize = 64;
/// Width and height of the codes of one mask.
const CODES_SIDE: usize = 4;
/// Vectors of the codebook, and their length.
const CODE_VALUES: usize = 128;
const CODE_WIDTH: usize = 512;
/// Channels of the residual blocks.
const WIDTH: usize = 128;
/// Names and channels, in and out, of the transposed convolutions.
const GROWING: [(&str, usize, usize); 4] = [
    ("decoder.4", 128, 128),
    ("decoder.6", 128, 64),
    ("decoder.8", 64, 32),
    ("decoder.10", 32, 16),
];

/// Codes to masks, on the CPU.
#[derive(Debug)]
pub struct MaskDecoder {
    /// `[CODE_VALUES, CODE_WIDTH]`.
    codebook: Tensor,
    widen: Conv2d,
    residuals: [Residual; 2],
    growing: Vec<ConvTranspose2d>,
    narrow: Conv2d,
}

#[derive(Debug)]
struct Residual([Conv2d; 3]);

impl MaskDecoder {
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(vb: &VarBuilder) -> Result<Self> {
        let growing = GROWING.iter().map(|&(name, before, after)| {
            let config = ConvTranspose2dConfig {
                padding: 1,
                stride: 2,
                ..ConvTranspose2dConfig::default()
            };
            conv_transpose2d(before, after, 4, config, vb.pp(name))
        });
        Ok(Self {
            codebook: vb.get((CODE_VALUES, CODE_WIDTH), "_vq_vae._embedding")?,
            widen: conv2d(
                CODE_WIDTH,
                WIDTH,
                1,
                Conv2dConfig::default(),
                vb.pp("decoder.0"),
            )?,
            residuals: [
                Residual::load(&vb.pp("decoder.2"))?,
                Residual::load(&vb.pp("decoder.3"))?,
            ],
            growing: growing.collect::<Result<_>>()?,
            narrow: conv2d(16, 1, 1, Conv2dConfig::default(), vb.pp("decoder.12"))?,
        })
    }

    /// The mask of 16 codes below 128: [`MASK_SIDE`]² values row by row, above 0 where the object
    /// is.
    ///
    /// # Errors
    /// When a code is too large.
    pub fn decode(&self, codes: &[u8]) -> Result<Vec<f32>> {
        let codes: Vec<u32> = codes.iter().map(|&code| code.into()).collect();
        let codes = Tensor::new(codes, &Device::Cpu)?;
        let embedded = self.codebook.index_select(&codes, 0)?;
        let embedded = embedded
            .t()?
            .contiguous()?
            .reshape((1, CODE_WIDTH, CODES_SIDE, CODES_SIDE))?;
        let mut hidden = self.widen.forward(&embedded)?.relu()?;
        for residual in &self.residuals {
            hidden = residual.forward(&hidden)?;
        }
        for layer in &self.growing {
            hidden = layer.forward(&hidden)?.relu()?;
        }
        self.narrow.forward(&hidden)?.flatten_all()?.to_vec1()
    }
}

impl Residual {
    fn load(vb: &VarBuilder) -> Result<Self> {
        let padded = Conv2dConfig {
            padding: 1,
            ..Conv2dConfig::default()
        };
        Ok(Self([
            conv2d(WIDTH, WIDTH, 3, padded, vb.pp("net.0"))?,
            conv2d(WIDTH, WIDTH, 3, padded, vb.pp("net.2"))?,
            conv2d(WIDTH, WIDTH, 1, Conv2dConfig::default(), vb.pp("net.4"))?,
        ]))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Self([first, second, third]) = self;
        let inner = first.forward(x)?.relu()?;
        let inner = second.forward(&inner)?.relu()?;
        x + third.forward(&inner)?
    }
}
