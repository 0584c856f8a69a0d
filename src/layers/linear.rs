//! One linear layer, whatever its weights are.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::Batch;
use crate::kernels::{Epilogue, Matmul, Outputs, WeightFormat};

/// `y = x · Wᵀ + b` on packed rows.
#[derive(Debug)]
pub struct Linear {
    weight: Matmul,
    /// `[out]`, in the activations' dtype.
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` `[out, in]`, and `bias` `[out]` when `bias` is set.
    pub fn load(
        vb: &VarBuilder,
        in_features: usize,
        out_features: usize,
        bias: bool,
        format: WeightFormat,
    ) -> Result<Self> {
        Self::load_fused(
            &[(vb.clone(), out_features)],
            in_features,
            bias,
            Outputs::SideBySide,
            format,
        )
    }

    /// Reads several layers that share their input as one.
    pub fn load_fused(
        parts: &[(VarBuilder, usize)],
        in_features: usize,
        bias: bool,
        outputs: Outputs,
        format: WeightFormat,
    ) -> Result<Self> {
        let device = parts[0].0.device();
        let weights = parts
            .iter()
            .map(|(vb, out)| {
                vb.clone()
                    .set_device(format.read_device(device))
                    .get_with_hints_dtype(
                        (*out, in_features),
                        "weight",
                        Default::default(),
                        format.read_dtype(),
                    )
            })
            .collect::<Result<Vec<_>>>()?;
        let activations = format.activation_dtype();
        let bias = if bias {
            let biases = parts
                .iter()
                .map(|(vb, out)| {
                    vb.get_with_hints_dtype(*out, "bias", Default::default(), activations)
                })
                .collect::<Result<Vec<_>>>()?;
            Some(Tensor::cat(&biases, 0)?)
        } else {
            None
        };
        Ok(Self {
            weight: Matmul::new(weights, outputs, format, device)?,
            bias,
        })
    }

    /// An unquantised layer from a weight `[out, in]` and a bias `[out]`, in `format`'s dtype.
    ///
    /// # Errors
    /// When the device fails.
    pub fn dense(weight: Tensor, bias: Tensor, format: WeightFormat) -> Result<Self> {
        let device = weight.device().clone();
        Ok(Self {
            weight: Matmul::new(
                vec![weight],
                Outputs::SideBySide,
                format.unquantized(),
                &device,
            )?,
            bias: Some(bias),
        })
    }

    /// `[rows, in]` to `[rows, out]`, in the dtype of `x`; half as wide if the outputs are gated.
    ///
    /// # Errors
    /// When `x` has other rows than the batch, or the device fails.
    pub fn forward(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        self.run(x, batch, Epilogue::default())
    }

    /// `gelu` of [`forward`](Self::forward).
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_gelu(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        let epilogue = Epilogue {
            gelu: true,
            ..Epilogue::default()
        };
        self.run(x, batch, epilogue)
    }

    /// `residual` `[rows, out]` plus [`forward`](Self::forward).
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor, batch: &Batch) -> Result<Tensor> {
        let epilogue = Epilogue {
            residual: Some(residual),
            ..Epilogue::default()
        };
        self.run(x, batch, epilogue)
    }

    fn run(&self, x: &Tensor, batch: &Batch, epilogue: Epilogue<'_>) -> Result<Tensor> {
        batch.check(x)?;
        let bias = self.bias.as_ref();
        self.weight.forward(x, Epilogue { bias, ..epilogue })
    }

    /// Rows of the weight, `ids` u32 `[n]` to `[n, in]`: an embedding that shares this layer's
    /// weight.
    ///
    /// # Errors
    /// When the device fails.
    pub fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        self.weight.rows(ids)
    }
}
