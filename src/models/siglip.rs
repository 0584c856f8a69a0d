//! SigLIP's vision tower (Zhai et al., arXiv 2303.15343): no class token, no pooling head,
//! learned positions, and the last norm is applied.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};

use super::config::VisionConfig;
use crate::checkpoint::adapter::POSITIONS;
use crate::layers::{AdapterId, Addition, Batch, ImageAttention, LayerNorm, Linear, Weights};

/// The tower: patches, layers, the last norm.
#[derive(Debug)]
pub struct VisionTower {
    patch_embedding: Linear,
    /// `[patches, hidden]`.
    position_embedding: Tensor,
    /// What adapters add to it.
    position_adapters: HashMap<AdapterId, Tensor>,
    layers: Vec<EncoderLayer>,
    post_layernorm: LayerNorm,
    config: VisionConfig,
    dtype: DType,
    device: Device,
}

/// One layer: attention, then the MLP, each after a norm and added to its input.
#[derive(Debug)]
pub struct EncoderLayer {
    layer_norm1: LayerNorm,
    attention: ImageAttention,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl VisionTower {
    pub fn load(weights: &Weights<'_>, config: &VisionConfig) -> Result<Self> {
        let device = weights.device().clone();
        let dtype = weights.activation_dtype();
        let hidden = config.hidden_size;
        let encoder = weights.pp("encoder").pp("layers");
        let embeddings = weights.pp("embeddings");
        Ok(Self {
            patch_embedding: patch_embedding(&embeddings.pp("patch_embedding"), config)?,
            position_embedding: embeddings.pp("position_embedding").get(
                (config.patches(), hidden),
                "weight",
                dtype,
            )?,
            position_adapters: HashMap::new(),
            layers: (0..config.layers)
                .map(|i| EncoderLayer::load(&encoder.pp(i), config))
                .collect::<Result<Vec<_>>>()?,
            post_layernorm: LayerNorm::load(
                &weights.pp("post_layernorm"),
                hidden,
                config.layer_norm_eps,
            )?,
            config: config.clone(),
            dtype,
            device,
        })
    }

    /// RGB bytes, `image_size × image_size × 3` an image, to `[images · patches, hidden]`.
    pub fn embed(&self, images: &[&[u8]], batch: &Batch) -> Result<Tensor> {
        let (side, patch) = (self.config.image_size, self.config.patch_size);
        let grid = side / patch;
        let bytes: Vec<u8> = images.concat();
        let shape = [images.len(), grid, patch, grid, patch, 3];
        // To [images, grid, grid, 3, patch, patch]: each patch in the order of a convolution's weight.
        let patches = Tensor::from_vec(bytes, &shape[..], &self.device)?
            .to_dtype(DType::F32)?
            .affine(1.0 / 127.5, -1.0)?
            .to_dtype(self.dtype)?
            .permute([0, 1, 3, 5, 2, 4])?
            .reshape((images.len() * grid * grid, 3 * patch * patch))?;
        let mut x = self
            .patch_embedding
            .forward(&patches, batch)?
            .reshape((images.len(), grid * grid, self.config.hidden_size))?
            .broadcast_add(&self.position_embedding)?
            .flatten_to(1)?;
        for rows in batch.adapters() {
            if let Some(added) = self.position_adapters.get(&rows.adapter) {
                let images = rows.rows.len() / (grid * grid);
                x = rows.add(&x, &added.repeat((images, 1))?)?;
            }
        }
        Ok(x)
    }

    /// Every linear layer.
    pub fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        let of_layers = self.layers.iter_mut().flat_map(EncoderLayer::linears);
        of_layers.chain([&mut self.patch_embedding])
    }

    /// Takes what an adapter changes in the positions.
    pub fn add_adapter(&mut self, addition: &mut Addition<'_>) -> Result<()> {
        let Some(module) = addition.adapter.modules.get(POSITIONS) else {
            return Ok(());
        };
        let mut added = self.position_embedding.zeros_like()?.to_dtype(DType::F32)?;
        let added_on = |added: Tensor, more: Tensor| added + more.to_device(&self.device)?;
        if let Some(own) = module.weight()? {
            let base = self.position_embedding.to_dtype(DType::F32)?;
            added = (added_on(added, own)? - base)?;
        }
        if let Some(low_rank) = &module.low_rank {
            added = added_on(added, low_rank.product()?)?;
        }
        let added = added.to_dtype(self.dtype)?;
        addition.bytes += added.elem_count() * self.dtype.size_in_bytes();
        addition.found(POSITIONS);
        self.position_adapters.insert(addition.id, added);
        Ok(())
    }

    /// Lets go of what an adapter changes in the positions.
    pub fn remove_adapter(&mut self, id: AdapterId) {
        self.position_adapters.remove(&id);
    }

    /// One encoder layer over `[images · patches, hidden]`.
    pub fn forward_layer(&self, x: &Tensor, layer: usize, batch: &Batch) -> Result<Tensor> {
        self.layers[layer].forward(x, batch)
    }

    /// The norm after the last layer.
    pub fn finish(&self, x: &Tensor) -> Result<Tensor> {
        self.post_layernorm.forward(x)
    }
}

/// A convolution whose stride is its kernel is a linear layer on flattened patches.
fn patch_embedding(weights: &Weights<'_>, config: &VisionConfig) -> Result<Linear> {
    let (hidden, patch) = (config.hidden_size, config.patch_size);
    let dtype = weights.activation_dtype();
    let kernel = weights.get((hidden, 3, patch, patch), "weight", dtype)?;
    let weight = kernel.reshape((hidden, 3 * patch * patch))?;
    let bias = weights.get(hidden, "bias", dtype)?;
    Linear::of(&weights.clone().unquantized(), weight, bias)
}

impl EncoderLayer {
    /// Reads `layer_norm1`, `self_attn`, `layer_norm2` and `mlp`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(weights: &Weights<'_>, config: &VisionConfig) -> Result<Self> {
        let (hidden, mlp, eps) = (
            config.hidden_size,
            config.intermediate_size,
            config.layer_norm_eps,
        );
        Ok(Self {
            layer_norm1: LayerNorm::load(&weights.pp("layer_norm1"), hidden, eps)?,
            attention: ImageAttention::load(&weights.pp("self_attn"), hidden, config.heads)?,
            layer_norm2: LayerNorm::load(&weights.pp("layer_norm2"), hidden, eps)?,
            fc1: Linear::load(weights.pp("mlp").pp("fc1"), hidden, mlp, true)?,
            fc2: Linear::load(weights.pp("mlp").pp("fc2"), mlp, hidden, true)?,
        })
    }

    /// Every linear layer.
    fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        let mlp = [&mut self.fc1, &mut self.fc2];
        self.attention.linears().into_iter().chain(mlp)
    }

    /// `[images · patches, hidden]` in, the same out.
    ///
    /// # Errors
    /// When the device fails, or the batch is not one of images.
    pub fn forward(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        let x = self
            .attention
            .forward_add(&self.layer_norm1.forward(x)?, x, batch)?;
        let hidden = self
            .fc1
            .forward_gelu(&self.layer_norm2.forward(&x)?, batch)?;
        self.fc2.forward_add(&hidden, &x, batch)
    }
}
