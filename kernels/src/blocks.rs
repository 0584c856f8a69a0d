//! Weights in GGML's blocks, which candle multiplies.

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{DType, Device, Module, Result, Tensor};
use rayon::prelude::*;

/// candle's quantised kernels want the inner dimension in multiples of this.
const BLOCK: usize = 256;

/// A weight `[out, in]`, `in` padded with zeros to whole blocks.
#[derive(Debug)]
pub struct Blocks {
    matmul: QMatMul,
    in_features: usize,
    padded: usize,
}

impl Blocks {
    /// Quantises `weight`, f32 `[out, in]` in the CPU's memory, for `device`.
    ///
    /// # Errors
    /// When memory runs out or the device fails.
    pub fn new(weight: &Tensor, dtype: GgmlDType, device: &Device) -> Result<Self> {
        let in_features = weight.dim(1)?;
        let padded = in_features.next_multiple_of(BLOCK);
        let weight = weight.pad_with_zeros(1, 0, padded - in_features)?;
        let matmul = QMatMul::from_qtensor(quantize(&weight, dtype, device)?)?;
        // The first product packs the weight for the processor. Better now than in a request.
        matmul.forward(&Tensor::zeros((1, padded), DType::F32, device)?)?;
        Ok(Self {
            matmul,
            in_features,
            padded,
        })
    }

    /// `x · Wᵀ` in f32.
    ///
    /// # Errors
    /// When the device fails.
    pub fn product(&self, x: &Tensor) -> Result<Tensor> {
        let missing = self.padded - self.in_features;
        let x = x.to_dtype(DType::F32)?.pad_with_zeros(1, 0, missing)?;
        self.matmul.forward(&x.contiguous()?)
    }

    /// Rows of the weight: `ids` u32 `[n]` to `[n, in]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        self.matmul.embedding(ids)?.narrow(1, 0, self.in_features)
    }
}

/// Quantises `weight`, f32 `[rows, padded]` in the CPU's memory, on all cores.
fn quantize(weight: &Tensor, dtype: GgmlDType, device: &Device) -> Result<QTensor> {
    let rows = weight.dim(0)?;
    let share = rows.div_ceil(4 * rayon::current_num_threads());
    let starts: Vec<usize> = (0..rows).step_by(share).collect();
    let parts = starts
        .into_par_iter()
        .map(|start| {
            let rows = weight.narrow(0, start, share.min(rows - start))?;
            // A copy, because `quantize` reads all of what a view is a view of.
            QTensor::quantize(&rows.force_contiguous()?, dtype)
        })
        .collect::<Result<Vec<_>>>()?;
    let blocks = parts
        .iter()
        .map(QTensor::data)
        .collect::<Result<Vec<_>>>()?;
    let storage = QStorage::from_data(blocks.concat().into(), device, dtype)?;
    QTensor::new(storage, weight.shape().clone())
}
