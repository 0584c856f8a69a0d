//! A checkpoint's weights with an adapter folded into them while they are read.

use std::sync::Arc;

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;

use super::{Adapter, EMBED_TOKENS, LM_HEAD, Module};
use crate::checkpoint::weights::WeightFiles;

/// Weights of a base plus what an adapter adds to them, computed in f32.
pub struct MergedWeights {
    pub base: WeightFiles,
    pub adapter: Arc<Adapter>,
}

impl MergedWeights {
    /// The base's tensor, in f32 in the CPU's memory. The logits' table is the token table, unless the
    /// adapter brings its own.
    fn of_base(&self, module: &str, parameter: &str, shape: Shape) -> Result<Tensor> {
        let module = if module == LM_HEAD {
            EMBED_TOKENS
        } else {
            module
        };
        let name = format!("{module}.{parameter}");
        let hints = Init::default();
        self.base.get(shape, &name, hints, DType::F32, &Device::Cpu)
    }

    fn merged(&self, module: &Module, name: &str, parameter: &str, shape: Shape) -> Result<Tensor> {
        let own = match parameter {
            "weight" => &module.weight,
            _ => &module.bias,
        };
        let base = match own {
            Some(own) => own.read(DType::F32, &Device::Cpu, &self.base.progress)?,
            None => self.of_base(name, parameter, shape.clone())?,
        };
        let added = match (&module.low_rank, parameter) {
            (None, _) => None,
            (Some(low_rank), "weight") => Some(low_rank.product()?),
            (Some(low_rank), _) => match low_rank.up_bias()? {
                Some(bias) => Some((bias * low_rank.scale)?),
                None => None,
            },
        };
        match added {
            Some(added) => base + added.reshape(shape)?,
            None => Ok(base),
        }
    }
}

impl SimpleBackend for MergedWeights {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        hints: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let (module, parameter) = name.rsplit_once('.').unwrap_or(("", name));
        match self.adapter.modules.get(module) {
            Some(changes) => self
                .merged(changes, module, parameter, shape)?
                .to_dtype(dtype)?
                .to_device(device),
            None if module == LM_HEAD => self
                .of_base(module, parameter, shape)?
                .to_dtype(dtype)?
                .to_device(device),
            None => self.base.get(shape, name, hints, dtype, device),
        }
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        Err(Error::Msg(format!("{name} is wanted without a shape")))
    }

    /// The logits' table counts only where it is not the token table.
    fn contains_tensor(&self, name: &str) -> bool {
        match name.strip_suffix(".weight") {
            Some(LM_HEAD) => {
                let touched = |module| self.adapter.modules.contains_key(module);
                touched(LM_HEAD) || touched(EMBED_TOKENS)
            }
            _ => self.base.contains_tensor(name),
        }
    }
}
