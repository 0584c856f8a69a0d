//! What layers are read from.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::VarBuilder;

use crate::kernels::{Matmul, Outputs, WeightFormat, WeightsCache};

/// Tensors by name, and the form in which layers keep them.
#[derive(Clone)]
pub struct Weights<'a> {
    vb: VarBuilder<'a>,
    format: WeightFormat,
    cache: Option<Arc<WeightsCache>>,
}

impl<'a> Weights<'a> {
    /// The tensors of `vb`, whose device is the layers', to be kept in `format`.
    pub fn new(vb: VarBuilder<'a>, format: WeightFormat) -> Self {
        Self {
            vb,
            format,
            cache: None,
        }
    }

    /// The same, but packed weights come from `cache` or go into it.
    pub fn with_cache(self, cache: Arc<WeightsCache>) -> Self {
        Self {
            cache: Some(cache),
            ..self
        }
    }

    /// Those below `name`.
    pub fn pp(&self, name: impl ToString) -> Self {
        Self {
            vb: self.vb.pp(name),
            ..self.clone()
        }
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.vb.contains_tensor(name)
    }

    /// For layers too small to be worth quantising.
    pub fn unquantized(self) -> Self {
        Self {
            format: self.format.unquantized(),
            ..self
        }
    }

    /// For the table that embeds tokens and gives logits, which needs more precision.
    pub fn for_token_table(self) -> Self {
        Self {
            format: self.format.for_token_table(),
            ..self
        }
    }

    /// Where the layers' tensors lie.
    pub fn device(&self) -> &Device {
        self.vb.device()
    }

    /// How they are stored.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// The module that they are, such as `language_model.layers.0.mlp.up_proj`.
    pub fn name(&self) -> String {
        self.vb.prefix()
    }

    /// The dtype of hidden states.
    pub fn activation_dtype(&self) -> DType {
        self.format.activation_dtype()
    }

    /// A tensor as it stands in the file, in `dtype`.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn get(&self, shape: impl Into<Shape>, name: &str, dtype: DType) -> Result<Tensor> {
        let hints = candle_nn::Init::default();
        self.vb.get_with_hints_dtype(shape, name, hints, dtype)
    }

    /// The product with a weight that is at hand, `[out, in]`.
    ///
    /// # Errors
    /// When memory runs out or the device fails.
    pub fn matmul_of(&self, weight: Tensor) -> Result<Matmul> {
        let weights = vec![weight];
        Matmul::new(weights, Outputs::SideBySide, self.format, self.device())
    }

    /// The product with the tensors `weight` of several parts, each `[out, in_features]`, which share
    /// their input. All parts have the format of the first.
    ///
    /// # Errors
    /// When one is missing or has another shape, memory runs out, or the device fails.
    pub fn matmul(parts: &[(Self, usize)], in_features: usize, outputs: Outputs) -> Result<Matmul> {
        let (first, _) = &parts[0];
        let (format, device) = (first.format, first.device());
        let read = || {
            let from = format.read_device(device);
            parts
                .iter()
                .map(|(part, out)| {
                    let vb = part.vb.clone().set_device(from.clone());
                    let part = Self::new(vb, format);
                    part.get((*out, in_features), "weight", format.read_dtype())
                })
                .collect()
        };
        let Some(cache) = &first.cache else {
            return Matmul::new(read()?, outputs, format, device);
        };
        let names: Vec<_> = parts.iter().map(|(part, _)| part.vb.prefix()).collect();
        let out_features = parts.iter().map(|(_, out)| out).sum();
        let shape = (out_features, in_features);
        let name = names.join("+");
        Matmul::cached(cache, &name, shape, outputs, format, device, read)
    }
}
