//! The product with a weight, by whatever is quickest for its format here.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::attention::{optional_values, values};
use super::blocks::Blocks;
use super::cpu::{self, Arrangement, Instructions, PackedFormat, PackedShape, PackedWeight};
use super::low_rank::{RowUpdates, Update, updated};
use super::norm::rms_norm;
use super::{WeightFormat, WeightsCache, cuda, on_gpu, own_kernels, portable};

/// `x · Wᵀ` for one weight `W`, packed for what multiplies it here.
#[derive(Debug)]
pub struct Matmul {
    weight: Weight,
    outputs: Outputs,
}

/// What becomes of the outputs of several weights that share their input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outputs {
    /// They lie side by side.
    SideBySide,
    /// Of two weights of the same size, the first gates the second: `gelu(first) · second`.
    Gated,
}

impl Outputs {
    fn arrangement(self) -> Arrangement {
        match self {
            Self::SideBySide => Arrangement::InOrder,
            Self::Gated => Arrangement::Gated,
        }
    }
}

/// What happens to a product before it is stored: `gelu(y + updates + bias) + residual`. A gated product
/// has nothing of it but the updates.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// What adapters add.
    pub updates: &'a [Update<'a>],
    /// `[out]`.
    pub bias: Option<&'a Tensor>,
    /// In the tanh approximation (Hendrycks and Gimpel, arXiv 1606.08415), which all of PaliGemma
    /// uses.
    pub gelu: bool,
    /// `[rows, out]`.
    pub residual: Option<&'a Tensor>,
}

/// What happens to rows before they are multiplied: see [`rms_norm`].
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// f32 `[in]`.
    pub scale: &'a Tensor,
    pub eps: f32,
}

#[derive(Debug)]
enum Weight {
    /// In the order of our own kernels.
    Packed(Arc<PackedWeight>),
    /// `[out, in]`.
    Dense(Tensor),
    /// In the order of our own kernels for GPUs.
    Tiles(cuda::Tiles),
    Blocks(Blocks),
}

impl Matmul {
    /// Stores weights `[out, in]` that share their input, read with the format's dtype and to its
    /// device, in `format` on `device`.
    ///
    /// # Errors
    /// When memory runs out or the device fails.
    pub fn new(
        weights: Vec<Tensor>,
        outputs: Outputs,
        format: WeightFormat,
        device: &Device,
    ) -> Result<Self> {
        let weight = match (packed_format(format, device), format.block_dtype()) {
            (Some(format), _) => Weight::Packed(Arc::new(pack(&weights, outputs, format)?)),
            (None, Some(_)) if format == WeightFormat::Q8_0 && on_gpu(device) => {
                let gated = outputs == Outputs::Gated;
                let tiles = with_rows(&weights, |rows| cuda::Tiles::new(rows, gated, device));
                Weight::Tiles(tiles?)
            }
            (None, Some(dtype)) => {
                Weight::Blocks(Blocks::new(&concat_rows(weights)?, dtype, device)?)
            }
            (None, None) => Weight::Dense(concat_rows(weights)?.to_dtype(format.read_dtype())?),
        };
        Ok(Self { weight, outputs })
    }

    /// A weight `[out, in]`, whose packed form comes from `cache` or goes into it under `name`. Where
    /// no kernel of ours multiplies, this is [`new`](Self::new).
    ///
    /// # Errors
    /// As [`new`](Self::new), and those of `read`, which gives what `new` takes.
    pub fn cached(
        cache: &WeightsCache,
        name: &str,
        (out_features, in_features): (usize, usize),
        outputs: Outputs,
        format: WeightFormat,
        device: &Device,
        read: impl FnOnce() -> Result<Vec<Tensor>>,
    ) -> Result<Self> {
        let Some(packed) = packed_format(format, device) else {
            return Self::new(read()?, outputs, format, device);
        };
        let shape = PackedShape {
            format: packed,
            arrangement: outputs.arrangement(),
            out_features,
            in_features,
        };
        let weight = cache.get_or_pack(name, shape, || pack(&read()?, outputs, packed))?;
        Ok(Self {
            weight: Weight::Packed(weight),
            outputs,
        })
    }

    /// `[rows, in]` to `[rows, out]`, in the dtype of `x`; half as wide if it is gated. The rows are
    /// normalised before, if there is a norm.
    ///
    /// The first `many` rows are of a kind that comes in great numbers. Those may be multiplied in another
    /// way, so a row of one kind must always be of that kind.
    ///
    /// # Errors
    /// When the device fails.
    pub fn forward(
        &self,
        x: &Tensor,
        norm: Option<Norm<'_>>,
        many: usize,
        epilogue: Epilogue<'_>,
    ) -> Result<Tensor> {
        let gated = self.outputs == Outputs::Gated;
        let normed = || match norm {
            Some(norm) => rms_norm(x, norm.scale, norm.eps),
            None => Ok(x.clone()),
        };
        let y = match &self.weight {
            Weight::Packed(weight) => return multiply(weight, &normed()?, many, epilogue),
            Weight::Tiles(weight) => return weight.product(x, norm, many, epilogue),
            Weight::Dense(weight) if on_gpu(x.device()) => match epilogue.updates {
                [] => return cuda::product(x, norm, weight, gated, epilogue),
                // What adapters add comes before the rest.
                _ => cuda::product(x, norm, weight, false, Epilogue::default())?,
            },
            Weight::Dense(weight) => normed()?.matmul(&weight.t()?)?,
            Weight::Blocks(weight) => weight.product(&normed()?)?,
        };
        let y = updated(y.to_dtype(x.dtype())?, epilogue.updates)?;
        if on_gpu(y.device()) {
            return cuda::finish(&y, gated, epilogue);
        }
        if gated {
            return gelu_gated(&y);
        }
        let y = match epilogue.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        let y = if epilogue.gelu { gelu(&y)? } else { y };
        match epilogue.residual {
            Some(residual) => residual + y,
            None => Ok(y),
        }
    }

    /// How it is packed, where our own kernels multiply.
    pub(super) fn packed_shape(&self) -> Option<PackedShape> {
        match &self.weight {
            Weight::Packed(weight) => Some(weight.shape),
            Weight::Tiles(_) | Weight::Dense(_) | Weight::Blocks(_) => None,
        }
    }

    /// `[out, in]`, where it is stored as it is.
    pub(super) fn dense(&self) -> Option<&Tensor> {
        match &self.weight {
            Weight::Dense(weight) => Some(weight),
            Weight::Packed(_) | Weight::Tiles(_) | Weight::Blocks(_) => None,
        }
    }

    /// Rows of the weight: `ids` u32 `[n]` to `[n, in]`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Packed(weight) => unpack_rows(weight, &ids.to_vec1()?),
            Weight::Dense(weight) => weight.index_select(ids, 0),
            Weight::Tiles(weight) => weight.rows(ids),
            Weight::Blocks(weight) => weight.rows(ids),
        }
    }
}

/// The format in which our own kernels hold a weight; `None` where candle's multiply.
fn packed_format(format: WeightFormat, device: &Device) -> Option<PackedFormat> {
    if !own_kernels(device) {
        return None;
    }
    match format {
        WeightFormat::F32 => Some(PackedFormat::F32),
        WeightFormat::Q8_0 => Some(PackedFormat::Q8),
        WeightFormat::Q4K => Some(PackedFormat::Q4),
        WeightFormat::Bf16 => None,
    }
}

fn pack(weights: &[Tensor], outputs: Outputs, format: PackedFormat) -> Result<PackedWeight> {
    with_rows(weights, |rows| {
        PackedWeight::new(rows, format, outputs.arrangement())
    })
}

/// What `make` makes of the rows of all weights.
fn with_rows<T>(weights: &[Tensor], make: impl FnOnce(&[&[f32]]) -> Result<T>) -> Result<T> {
    let weights: Vec<_> = weights.iter().map(Tensor::storage_and_layout).collect();
    let mut rows = Vec::new();
    for (storage, layout) in &weights {
        let (_, in_features) = layout.shape().dims2()?;
        rows.extend(values(storage, layout)?.chunks_exact(in_features));
    }
    make(&rows)
}

fn multiply(
    weight: &PackedWeight,
    x: &Tensor,
    many: usize,
    epilogue: Epilogue<'_>,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let rows = x.dim(0)?;
    let updates = RowUpdates::new(epilogue.updates)?;
    let updates = updates.by_row(rows)?;
    let residual = epilogue.residual.map(Tensor::contiguous).transpose()?;
    let x = x.storage_and_layout();
    let bias = epilogue.bias.map(Tensor::storage_and_layout);
    let residual = residual.as_ref().map(Tensor::storage_and_layout);
    let y = cpu::product(
        Instructions::chosen(),
        weight,
        values(&x.0, x.1)?,
        many,
        cpu::Epilogue {
            updates: &updates,
            bias: optional_values(&bias)?,
            gelu: epilogue.gelu,
            residual: optional_values(&residual)?,
        },
    );
    Tensor::from_vec(y, (rows, weight.shape.width()), &Device::Cpu)
}

fn unpack_rows(weight: &PackedWeight, ids: &[u32]) -> Result<Tensor> {
    let PackedShape {
        in_features: width,
        out_features,
        ..
    } = weight.shape;
    let mut values = vec![0.0; ids.len() * width];
    for (&id, values) in ids.iter().zip(values.chunks_exact_mut(width)) {
        if id as usize >= out_features {
            candle_core::bail!("row {id} of a weight of {} rows", out_features);
        }
        weight.unpack_row(id as usize, values);
    }
    Tensor::from_vec(values, (ids.len(), width), &Device::Cpu)
}

fn gelu(x: &Tensor) -> Result<Tensor> {
    match x.device().is_cpu() {
        true => cpu::gelu::gelu(x),
        false => portable::gelu(x),
    }
}

fn gelu_gated(gate_up: &Tensor) -> Result<Tensor> {
    match gate_up.device().is_cpu() {
        true => cpu::gelu::gelu_gated(gate_up),
        false => portable::gelu_gated(gate_up),
    }
}

/// Stacks matrices that have the same number of columns; a single one is not copied.
fn concat_rows(mut weights: Vec<Tensor>) -> Result<Tensor> {
    match weights.len() {
        1 => Ok(weights.remove(0)),
        _ => Tensor::cat(&weights, 0),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

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
            let weights = vec![weight.clone()];
            let matmul = Matmul::new(weights, Outputs::SideBySide, format, &Device::Cpu).unwrap();
            let y = matmul.forward(&x, None, 0, Epilogue::default()).unwrap();
            let error = relative_error(&y, &exact);
            assert!(error < tolerance, "{format}: {error}");
            let rows = matmul.rows(&ids).unwrap().to_dtype(DType::F32).unwrap();
            let error = relative_error(&rows, &exact_rows);
            assert!(error < tolerance, "{format}, rows: {error}");
        }
    }
}
