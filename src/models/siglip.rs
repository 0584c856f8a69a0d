//! SigLIP's vision tower (Zhai et al., arXiv 2303.15343): no class token, no pooling head,
//! learned positions, and the last norm is applied.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::activation::gelu;
use super::attention::{Scoring, attend_all};
use super::config::VisionConfig;
use super::linear::{Linear, WeightFormat};
use super::norm::LayerNorm;

#[derive(Debug)]
pub struct VisionTower {
    patch_embedding: Linear,
    /// `[patches, hidden]`.
    position_embedding: Tensor,
    layers: Vec<EncoderLayer>,
    post_layernorm: LayerNorm,
    config: VisionConfig,
    dtype: DType,
    device: Device,
}

#[derive(Debug)]
struct EncoderLayer {
    layer_norm1: LayerNorm,
    /// Queries, keys and values side by side.
    qkv: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl VisionTower {
    pub fn load(vb: &VarBuilder, config: &VisionConfig, format: WeightFormat) -> Result<Self> {
        let device = vb.device().clone();
        let dtype = format.activation_dtype();
        let hidden = config.hidden_size;
        let encoder = vb.pp("encoder").pp("layers");
        let embeddings = vb.pp("embeddings");
        Ok(Self {
            patch_embedding: patch_embedding(&embeddings.pp("patch_embedding"), config, format)?,
            position_embedding: embeddings.pp("position_embedding").get_with_hints_dtype(
                (config.patches(), hidden),
                "weight",
                Default::default(),
                dtype,
            )?,
            layers: (0..config.layers)
                .map(|i| EncoderLayer::load(&encoder.pp(i), config, format))
                .collect::<Result<Vec<_>>>()?,
            post_layernorm: LayerNorm::load(
                &vb.pp("post_layernorm"),
                hidden,
                config.layer_norm_eps,
            )?,
            config: config.clone(),
            dtype,
            device,
        })
    }

    /// RGB bytes, `image_size × image_size × 3` an image, to `[images · patches, hidden]`.
    pub fn embed(&self, images: &[&[u8]]) -> Result<Tensor> {
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
        self.patch_embedding
            .forward(&patches)?
            .reshape((images.len(), grid * grid, self.config.hidden_size))?
            .broadcast_add(&self.position_embedding)?
            .flatten_to(1)
    }

    /// One encoder layer over `[images · patches, hidden]`.
    pub fn forward_layer(&self, x: &Tensor, layer: usize) -> Result<Tensor> {
        self.layers[layer].forward(x, &self.config)
    }

    /// The norm after the last layer.
    pub fn finish(&self, x: &Tensor) -> Result<Tensor> {
        self.post_layernorm.forward(x)
    }
}

/// A convolution whose stride is its kernel is a linear layer on flattened patches.
fn patch_embedding(vb: &VarBuilder, config: &VisionConfig, format: WeightFormat) -> Result<Linear> {
    let (hidden, patch) = (config.hidden_size, config.patch_size);
    let dtype = format.activation_dtype();
    let weight = vb
        .get_with_hints_dtype(
            (hidden, 3, patch, patch),
            "weight",
            Default::default(),
            dtype,
        )?
        .reshape((hidden, 3 * patch * patch))?;
    let bias = vb.get_with_hints_dtype(hidden, "bias", Default::default(), dtype)?;
    Ok(Linear::dense(weight, bias))
}

impl EncoderLayer {
    fn load(vb: &VarBuilder, config: &VisionConfig, format: WeightFormat) -> Result<Self> {
        let (hidden, mlp, eps) = (
            config.hidden_size,
            config.intermediate_size,
            config.layer_norm_eps,
        );
        let attention = vb.pp("self_attn");
        let qkv = ["q_proj", "k_proj", "v_proj"].map(|name| (attention.pp(name), hidden));
        Ok(Self {
            layer_norm1: LayerNorm::load(&vb.pp("layer_norm1"), hidden, eps)?,
            qkv: Linear::load_fused(&qkv, hidden, true, format)?,
            out_proj: Linear::load(&attention.pp("out_proj"), hidden, hidden, true, format)?,
            layer_norm2: LayerNorm::load(&vb.pp("layer_norm2"), hidden, eps)?,
            fc1: Linear::load(&vb.pp("mlp").pp("fc1"), hidden, mlp, true, format)?,
            fc2: Linear::load(&vb.pp("mlp").pp("fc2"), mlp, hidden, true, format)?,
        })
    }

    fn forward(&self, x: &Tensor, config: &VisionConfig) -> Result<Tensor> {
        let x = (x + self.attend(&self.layer_norm1.forward(x)?, config)?)?;
        let hidden = gelu(&self.fc1.forward(&self.layer_norm2.forward(&x)?)?)?;
        &x + self.fc2.forward(&hidden)?
    }

    fn attend(&self, x: &Tensor, config: &VisionConfig) -> Result<Tensor> {
        let (hidden, heads, patches) = (config.hidden_size, config.heads, config.patches());
        let head_dim = hidden / heads;
        let scoring = Scoring {
            scale: (head_dim as f64).powf(-0.5),
            softcap: None,
        };
        let qkv = self.qkv.forward(x)?;
        let images = (0..x.dim(0)? / patches)
            .map(|image| {
                let part = |i: usize| {
                    qkv.narrow(0, image * patches, patches)?
                        .narrow(1, i * hidden, hidden)?
                        .reshape((patches, heads, head_dim))
                };
                attend_all(&part(0)?, &part(1)?, &part(2)?, None, scoring)
            })
            .collect::<Result<Vec<_>>>()?;
        self.out_proj.forward(&Tensor::cat(&images, 0)?)
    }
}
