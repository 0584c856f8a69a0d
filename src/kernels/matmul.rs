//! The product with a weight, by whatever is quickest for its format here.

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{DType, Device, Module, Result, Tensor};
use rayon::prelude::*;

use super::WeightFormat;

/// The fast quantised kernels want the inner dimension in multiples of this.
const BLOCK: usize = 256;

/// `x · Wᵀ` for one weight `W`, packed for what multiplies it here.
#[derive(Debug)]
pub struct Matmul(Weight);

#[derive(Debug)]
enum Weight {
    /// `[out, in]`.
    Dense(Tensor),
    /// `[out, in]`, `in` padded with zeros to whole blocks.
    Quantized {
        matmul: QMatMul,
        in_features: usize,
        padded: usize,
    },
}

impl Matmul {
    /// Stores `weight` `[out, in]`, read with the format's dtype and to its device, in `format` on
    /// `device`.
    ///
    /// # Errors
    /// When memory runs out or the device fails.
    pub fn new(weight: Tensor, format: WeightFormat, device: &Device) -> Result<Self> {
        let Some(dtype) = format.block_dtype() else {
            return Ok(Self(Weight::Dense(weight.to_dtype(format.read_dtype())?)));
        };
        let in_features = weight.dim(1)?;
        let padded = in_features.next_multiple_of(BLOCK);
        let weight = weight.pad_with_zeros(1, 0, padded - in_features)?;
        let matmul = QMatMul::from_qtensor(quantize(&weight, dtype, device)?)?;
        // The first product packs the weight for the processor. Better now than in a request.
        matmul.forward(&Tensor::zeros((1, padded), DType::F32, device)?)?;
        Ok(Self(Weight::Quantized {
            matmul,
            in_features,
            padded,
        }))
    }

    /// `[rows, in]` to `[rows, out]`, in the dtype of `x`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = match &self.0 {
            Weight::Dense(weight) => x.matmul(&weight.t()?)?,
            Weight::Quantized {
                matmul,
                in_features,
                padded,
            } => {
                let x = x.to_dtype(DType::F32)?;
                matmul.forward(&x.pad_with_zeros(1, 0, padded - in_features)?.contiguous()?)?
            }
        };
        y.to_dtype(x.dtype())
    }

    /// Rows of the weight: `ids` u32 `[n]` to `[n, in]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        match &self.0 {
            Weight::Dense(weight) => weight.index_select(ids, 0),
            Weight::Quantized {
                matmul,
                in_features,
                ..
            } => matmul.embedding(ids)?.narrow(1, 0, *in_features),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `[rows, columns]` of values that no two rows share.
    fn waves(rows: usize, columns: usize) -> Tensor {
        let value = |i: usize| ((i / columns) as f32 * 1.7 + (i % columns) as f32 * 0.31).sin();
        let values: Vec<f32> = (0..rows * columns).map(value).collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    fn relative_error(ours: &Tensor, exact: &Tensor) -> f32 {
        let norm = |x: Tensor| {
            let sum = x.sqr().unwrap().sum_all().unwrap();
            sum.to_scalar::<f32>().unwrap().sqrt()
        };
        norm((ours - exact).unwrap()) / norm(exact.clone())
    }

    #[test]
    fn quantised_weights_give_nearly_the_exact_product_and_rows() {
        // Neither side is a whole number of blocks or of shares.
        let (weight, x) = (waves(133, 72), waves(5, 72));
        let exact = x.matmul(&weight.t().unwrap()).unwrap();
        let ids = Tensor::new(&[0u32, 17, 132], &Device::Cpu).unwrap();
        let exact_rows = weight.index_select(&ids, 0).unwrap();
        for (format, tolerance) in [
            (WeightFormat::F32, 1e-6),
            (WeightFormat::Q8_0, 0.02),
            (WeightFormat::Q4K, 0.12),
        ] {
            let matmul = Matmul::new(weight.clone(), format, &Device::Cpu).unwrap();
            let error = relative_error(&matmul.forward(&x).unwrap(), &exact);
            assert!(error < tolerance, "{format}: {error}");
            let rows = matmul.rows(&ids).unwrap().to_dtype(DType::F32).unwrap();
            let error = relative_error(&rows, &exact_rows);
            assert!(error < tolerance, "{format}, rows: {error}");
        }
    }
}
