//! One linear layer, whatever its weights are.

use candle_core::{Device, Result, Tensor, bail};

use super::adapters::{AdapterRows, LayerAdapter, LayerAdapters, Target, low_rank};
use super::{AdapterId, Addition, Batch, RmsNorm, Weights};
use crate::kernels::{Epilogue, Matmul, Norm, Outputs, Update, WeightFormat, rms_norm};

/// `y = x · Wᵀ + b` on packed rows, and what adapters change in it for theirs.
#[derive(Debug)]
pub struct Linear {
    weight: Matmul,
    /// `[out]`, in the activations' dtype.
    bias: Option<Tensor>,
    /// The modules whose outputs lie side by side.
    targets: Vec<Target>,
    adapters: LayerAdapters,
    format: WeightFormat,
    device: Device,
}

impl Linear {
    /// Reads `weight` `[out, in]`, and `bias` `[out]` when `bias` is set.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, memory runs out, or the device fails.
    pub fn load(
        weights: Weights<'_>,
        in_features: usize,
        out_features: usize,
        bias: bool,
    ) -> Result<Self> {
        let parts = [(weights, out_features)];
        Self::load_fused(&parts, in_features, bias, Outputs::SideBySide)
    }

    /// Reads several layers that share their input as one.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_fused(
        parts: &[(Weights<'_>, usize)],
        in_features: usize,
        bias: bool,
        outputs: Outputs,
    ) -> Result<Self> {
        let weight = Weights::matmul(parts, in_features, outputs)?;
        let biases = parts
            .iter()
            .filter(|_| bias)
            .map(|(part, out)| part.get(*out, "bias", part.activation_dtype()))
            .collect::<Result<Vec<_>>>()?;
        let bias = match biases.is_empty() {
            true => None,
            false => Some(Tensor::cat(&biases, 0)?),
        };
        let (first, _) = &parts[0];
        let targets = parts.iter().map(|(part, out)| (part.name(), *out));
        Ok(Self {
            weight,
            bias,
            targets: targets.collect(),
            adapters: LayerAdapters::default(),
            format: first.format(),
            device: first.device().clone(),
        })
    }

    /// The module of `weights` with a weight that is at hand, `[out, in]`, and a bias `[out]` in the
    /// activations' dtype.
    ///
    /// # Errors
    /// When memory runs out or the device fails.
    pub fn of(weights: &Weights<'_>, weight: Tensor, bias: Tensor) -> Result<Self> {
        Ok(Self {
            targets: vec![(weights.name(), weight.dim(0)?)],
            weight: weights.matmul_of(weight)?,
            bias: Some(bias),
            adapters: LayerAdapters::default(),
            format: weights.format(),
            device: weights.device().clone(),
        })
    }

    /// The same as the module `name` to adapters.
    pub fn known_as(mut self, name: &str) -> Self {
        if let [(known, _)] = self.targets.as_mut_slice() {
            name.clone_into(known);
        }
        self
    }

    /// Takes what an adapter changes in this layer.
    ///
    /// # Errors
    /// When memory runs out, the device fails, or the adapter replaces a part of the weight.
    pub fn add_adapter(&mut self, addition: &mut Addition<'_>) -> Result<()> {
        let (weight, device) = (&self.weight, &self.device);
        let low_rank = low_rank(addition, &self.targets, weight, self.format, device)?;
        let own = self.own_weight(addition)?;
        if low_rank.is_some() || own.is_some() {
            let adapter = LayerAdapter { low_rank, own };
            self.adapters.insert(addition.id, adapter);
        }
        Ok(())
    }

    /// Lets go of what an adapter changes.
    pub fn remove_adapter(&mut self, id: AdapterId) {
        self.adapters.remove(id);
    }

    /// The weight and the bias that an adapter brings.
    fn own_weight(&self, addition: &mut Addition<'_>) -> Result<Option<(Matmul, Option<Tensor>)>> {
        let modules = &addition.adapter.modules;
        let brings = |(name, _): &&Target| modules.get(name).is_some_and(|it| it.brings_weights());
        let Some((name, _)) = self.targets.iter().find(brings) else {
            return Ok(None);
        };
        let ([_], Some(weight)) = (self.targets.as_slice(), modules[name].weight()?) else {
            bail!(
                "the adapter brings a weight of its own for {name}, which is computed together with others here; use it with --merge-adapter"
            );
        };
        let dtype = self.format.activation_dtype();
        let bias = match modules[name].bias()? {
            Some(bias) => Some(bias.to_dtype(dtype)?.to_device(&self.device)?),
            None => self.bias.clone(),
        };
        addition.bytes += (weight.elem_count() as f64 * self.format.bytes_per_weight()) as usize;
        let read = weight.to_dtype(self.format.read_dtype())?;
        let read = read.to_device(&self.format.read_device(&self.device))?;
        let own = Matmul::new(vec![read], Outputs::SideBySide, self.format, &self.device)?;
        addition.found(name);
        Ok(Some((own, bias)))
    }

    /// `[rows, in]` to `[rows, out]`, in the dtype of `x`; half as wide if the outputs are gated.
    ///
    /// # Errors
    /// When `x` has other rows than the batch, or the device fails.
    pub fn forward(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        self.run(x, None, batch, Epilogue::default())
    }

    /// [`forward`](Self::forward) of the rows of `x` after `norm`, if there is one.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_normed(
        &self,
        x: &Tensor,
        norm: Option<&RmsNorm>,
        batch: &Batch,
    ) -> Result<Tensor> {
        let norm = norm.map(RmsNorm::parameters);
        self.run(x, norm, batch, Epilogue::default())
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
        self.run(x, None, batch, epilogue)
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
        self.run(x, None, batch, epilogue)
    }

    fn run(
        &self,
        x: &Tensor,
        norm: Option<Norm<'_>>,
        batch: &Batch,
        epilogue: Epilogue<'_>,
    ) -> Result<Tensor> {
        batch.check(x)?;
        let groups = batch.adapters().iter();
        let adapted: Vec<_> = groups
            .filter_map(|rows| Some((rows, self.adapters.get(rows.adapter)?)))
            .collect();
        let bias = self.bias.as_ref();
        let epilogue = Epilogue { bias, ..epilogue };
        if adapted.is_empty() {
            return self.weight.forward(x, norm, batch.many_rows(), epilogue);
        }
        let normed = norm.map(|norm| rms_norm(x, norm.scale, norm.eps));
        let normed = normed.transpose()?;
        self.run_adapted(
            normed.as_ref().unwrap_or(x),
            &adapted,
            batch.many_rows(),
            epilogue,
        )
    }

    /// The product where some rows are those of adapters that change this layer.
    fn run_adapted(
        &self,
        x: &Tensor,
        adapted: &[(&AdapterRows, &LayerAdapter)],
        many: usize,
        epilogue: Epilogue<'_>,
    ) -> Result<Tensor> {
        let added = adapted.iter().filter(|(_, adapter)| adapter.own.is_none());
        let updates = added.filter_map(|(rows, adapter)| {
            Some(Update {
                rows: &rows.rows,
                ids: &rows.ids,
                low_rank: adapter.low_rank.as_ref()?,
                x,
                many: rows.before(many),
            })
        });
        let updates: Vec<_> = updates.collect();
        let updates = updates.as_slice();
        let mut y = self.weight.forward(
            x,
            None,
            many,
            Epilogue {
                updates,
                ..epilogue
            },
        )?;
        for (rows, adapter) in adapted {
            let Some((weight, bias)) = &adapter.own else {
                continue;
            };
            let (x, many) = (rows.of(x)?, rows.before(many));
            let residual = epilogue.residual.map(|it| rows.of(it)).transpose()?;
            let all: Vec<u32> = (0..rows.rows.len() as u32).collect();
            let ids = Tensor::new(all.as_slice(), x.device())?;
            let update = adapter.low_rank.as_ref().map(|low_rank| Update {
                rows: &all,
                ids: &ids,
                low_rank,
                x: &x,
                many,
            });
            let own = Epilogue {
                updates: update.as_slice(),
                bias: bias.as_ref(),
                residual: residual.as_ref(),
                ..epilogue
            };
            y = rows.replace(&y, &weight.forward(&x, None, many, own)?)?;
        }
        Ok(y)
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
