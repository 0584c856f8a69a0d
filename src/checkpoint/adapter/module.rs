//! What an adapter changes in one module.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};

use super::config::Config;
use super::names::Part;
use super::{EMBED_TOKENS, LM_HEAD};
use crate::checkpoint::stored::StoredTensor;
use crate::checkpoint::weights::WeightFiles;
use crate::telemetry::load_progress::LoadProgress;

/// What an adapter changes in a module: it adds a product of low rank, or brings a weight of its own, or
/// both.
#[derive(Debug)]
pub struct Module {
    pub low_rank: Option<LowRank>,
    /// In the place of the base's weight.
    pub(super) weight: Option<StoredTensor>,
    pub(super) bias: Option<StoredTensor>,
}

/// `scale · up · down`, which is added to a weight `[out, in]`; of an embedding, its transpose is.
#[derive(Debug)]
pub struct LowRank {
    pub rank: usize,
    pub scale: f64,
    pub is_embedding: bool,
    down: StoredTensor,
    up: StoredTensor,
    up_bias: Option<StoredTensor>,
}

impl Module {
    /// Of the tensors that go with a module, whose name in the model that was trained is `name`.
    pub fn new(
        config: &Config,
        name: &str,
        mut parts: BTreeMap<Part, StoredTensor>,
    ) -> std::result::Result<Self, String> {
        let mut pair = |down, up| (parts.remove(&down), parts.remove(&up));
        let linear = pair(Part::Down, Part::Up);
        let embedding = pair(Part::EmbeddingDown, Part::EmbeddingUp);
        let up_bias = parts.remove(&Part::UpBias);
        if up_bias.is_some() && !config.lora_bias {
            return Err(format!(
                "has a lora_B.bias for {name}, and its configuration says lora_bias: false"
            ));
        }
        let is_embedding = embedding.0.is_some() || embedding.1.is_some();
        let low_rank = match if is_embedding { embedding } else { linear } {
            (None, None) if up_bias.is_none() => None,
            (Some(down), Some(up)) => {
                let rank = config.rank(name)?;
                let found = (down.shape.first().copied(), up.shape.get(1).copied());
                if rank == 0 || found != (Some(rank), Some(rank)) {
                    return Err(format!(
                        "has a lora_A of shape {:?} and a lora_B of shape {:?} for {name}, where its configuration says rank {rank}",
                        down.shape, up.shape
                    ));
                }
                if config.lora_bias && !is_embedding && up_bias.is_none() {
                    return Err(format!(
                        "has no lora_B.bias for {name}, and its configuration says lora_bias: true"
                    ));
                }
                let scale = config.scale(name, rank)?;
                Some(LowRank {
                    rank,
                    scale,
                    is_embedding,
                    down,
                    up,
                    up_bias,
                })
            }
            (down, _) => {
                let missing = if down.is_some() { "lora_B" } else { "lora_A" };
                return Err(format!("has no {missing} for {name}"));
            }
        };
        let trained = [parts.remove(&Part::Weight), parts.remove(&Part::Bias)];
        if trained.iter().any(Option::is_some) && !config.saves(name) {
            return Err(format!(
                "brings a weight of its own for {name}, which its configuration's modules_to_save does not name"
            ));
        }
        let [weight, bias] = trained;
        Ok(Self {
            low_rank,
            weight: weight.or(parts.remove(&Part::CopiedWeight)),
            bias: bias.or(parts.remove(&Part::CopiedBias)),
        })
    }

    /// Lets go of weights that are those of the base.
    ///
    /// # Errors
    /// When a number is not finite.
    pub(super) fn drop_copies(&mut self, name: &str, base: &WeightFiles) -> Result<()> {
        let name = if name == LM_HEAD { EMBED_TOKENS } else { name };
        for (own, what) in [(&mut self.weight, "weight"), (&mut self.bias, "bias")] {
            if let Some(tensor) = own
                && base.holds(&format!("{name}.{what}"), tensor)?
            {
                *own = None;
            }
        }
        Ok(())
    }

    /// Whether it adds a bias.
    pub(super) fn adds_bias(&self) -> bool {
        self.low_rank.as_ref().is_some_and(LowRank::has_bias)
    }

    /// Whether it replaces the base's weight or bias.
    pub fn brings_weights(&self) -> bool {
        self.weight.is_some() || self.bias.is_some()
    }

    /// The weight, f32, that it has in the place of the base's.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn weight(&self) -> Result<Option<Tensor>> {
        self.weight.as_ref().map(read).transpose()
    }

    /// The bias, f32 `[out]`, that it has in the place of the base's.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn bias(&self) -> Result<Option<Tensor>> {
        self.bias.as_ref().map(read).transpose()
    }

    /// How many numbers it keeps beside the base's, where `width` outputs are computed as one.
    pub(super) fn values(&self, width: usize) -> usize {
        let own = self.weight.iter().chain(&self.bias);
        let own: usize = own.map(|tensor| area(&tensor.shape)).sum();
        own + self.low_rank.as_ref().map_or(0, |low_rank| {
            let bias = if low_rank.has_bias() { width } else { 0 };
            area(&low_rank.down.shape) + width * low_rank.rank + bias
        })
    }

    /// How many outputs it has.
    pub(super) fn outputs(&self) -> usize {
        self.low_rank.as_ref().map_or(0, |it| it.up.shape[0])
    }

    /// Whether the base has a module of that name, with the same shape.
    pub(super) fn check(&self, name: &str, base: &WeightFiles) -> std::result::Result<(), String> {
        let known = match name {
            LM_HEAD => EMBED_TOKENS,
            other => other,
        };
        let weight = base.shape(&format!("{known}.weight"));
        let bias = base.shape(&format!("{known}.bias"));
        let (None, None) = (&weight, &bias) else {
            return self.check_shapes(name, weight, bias);
        };
        Err(format!(
            "changes {name}, and the model has no such module; every tensor of an adapter must be of use"
        ))
    }

    fn check_shapes(
        &self,
        name: &str,
        weight: Option<&[usize]>,
        bias: Option<&[usize]>,
    ) -> std::result::Result<(), String> {
        for (ours, theirs, what) in [(&self.weight, weight, "weight"), (&self.bias, bias, "bias")] {
            let Some(ours) = ours else { continue };
            if Some(ours.shape.as_slice()) != theirs {
                return Err(format!(
                    "replaces {name}.{what} by one of shape {:?}, and the model's has {theirs:?}",
                    ours.shape
                ));
            }
        }
        let Some(low_rank) = &self.low_rank else {
            return Ok(());
        };
        let Some([rows, columns @ ..]) = weight else {
            return Err(format!("changes {name}, which has no weight"));
        };
        let columns = area(columns);
        let wanted = match low_rank.is_embedding {
            true => (columns, *rows),
            false => (*rows, columns),
        };
        let found = (low_rank.up.shape[0], area(&low_rank.down.shape[1..]));
        if found != wanted {
            return Err(format!(
                "changes {name} by a product lora_B · lora_A of shape {found:?}, and the model's weight has {wanted:?}; it is of another base"
            ));
        }
        if low_rank
            .up_bias
            .as_ref()
            .is_some_and(|it| it.shape != [found.0])
        {
            return Err(format!("has a lora_B.bias of another length than {name}"));
        }
        Ok(())
    }
}

impl LowRank {
    /// Whether it adds a bias, too.
    pub fn has_bias(&self) -> bool {
        self.up_bias.is_some()
    }

    /// f32 `[rank, in]`, a convolution's kernel or an embedding's rows lying side by side.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn down(&self) -> Result<Tensor> {
        let down = read(&self.down)?;
        down.reshape((self.rank, down.elem_count() / self.rank))
    }

    /// f32 `[out, rank]`, without the scale.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn up(&self) -> Result<Tensor> {
        let up = read(&self.up)?;
        up.reshape((up.elem_count() / self.rank, self.rank))
    }

    /// f32 `[out]`, without the scale.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn up_bias(&self) -> Result<Option<Tensor>> {
        self.up_bias.as_ref().map(read).transpose()
    }

    /// f32 `[out, in]`: what is added to a weight; of an embedding `[rows, width]`.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn product(&self) -> Result<Tensor> {
        let product = (self.up()?.matmul(&self.down()?)? * self.scale)?;
        match self.is_embedding {
            true => product.t()?.contiguous(),
            false => Ok(product),
        }
    }
}

/// The product of `sides`, or the largest number: a tensor without rows may claim any.
fn area(sides: &[usize]) -> usize {
    sides
        .iter()
        .fold(1, |area, &side| area.saturating_mul(side))
}

/// An adapter is small: its progress is not worth telling.
fn read(tensor: &StoredTensor) -> Result<Tensor> {
    tensor.read(DType::F32, &Device::Cpu, &LoadProgress::default())
}
