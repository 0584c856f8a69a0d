//! PaliGemma: the vision tower, the projector and the decoder, a step at a time.

use std::sync::Mutex;

use candle_core::{DType, Device, DeviceLocation, Error, Result, Tensor, bail};

use super::decoding::Decoding;
use super::gemma::Gemma;
use super::recorded_steps::RecordedSteps;
use super::siglip::VisionTower;
use super::{Budget, Model, ModelConfig, Picture, Prefix, Progress, StepOutput};
use crate::checkpoint::Adapter;
use crate::kernels::{card, run_on};
use crate::layers::{
    AdapterId, Addition, Batch, ContinuedMasks, DecodeRow, KvCache, Linear, PrefixRows, RopeTable,
    Weights,
};

/// A resident PaliGemma 1 or 2.
#[derive(Debug)]
pub struct PaliGemma {
    vision: VisionTower,
    projector: Linear,
    pub(super) text: Gemma,
    pub(super) rope: RopeTable,
    pub(super) config: ModelConfig,
    /// Tokens that can be generated: the table's rows without the padded ones.
    pub(super) vocab: usize,
    dtype: DType,
    pub(super) device: Device,
    pub(super) recorded: Mutex<RecordedSteps>,
}

/// Images on their way through the vision tower.
#[derive(Debug)]
pub struct Encode {
    /// `[images · patches, vision hidden]`.
    x: Tensor,
    images: usize,
    batch: Batch,
    layers_done: usize,
}

/// Prefixes on their way through the decoder.
#[derive(Debug)]
pub struct Prefill {
    /// `[rows of all prefixes, hidden]`.
    x: Tensor,
    batch: Batch,
    /// Of each prefix.
    adapters: Vec<Option<AdapterId>>,
    layers_done: usize,
}

impl PaliGemma {
    /// Reads the weights, whose names are `vision_tower.…`, `multi_modal_projector.linear.…` and
    /// `language_model.…`, and whose device is the model's. `vocab` is the number of tokens that the tokenizer knows, at most the table's rows.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than `config` says, or memory runs out.
    pub fn load(weights: &Weights<'_>, config: &ModelConfig, vocab: usize) -> Result<Self> {
        let device = weights.device().clone();
        let dtype = weights.activation_dtype();
        // The decoder goes first: it holds the largest tensor.
        let text = Gemma::load(
            &weights.pp("language_model"),
            weights.pp("lm_head"),
            &config.text,
        )?;
        Ok(Self {
            vision: VisionTower::load(&weights.pp("vision_tower"), &config.vision)?,
            projector: Linear::load(
                weights
                    .pp("multi_modal_projector")
                    .pp("linear")
                    .unquantized(),
                config.vision.hidden_size,
                config.text.hidden_size,
                true,
            )?,
            text,
            rope: RopeTable::new(
                config.text.max_position_embeddings,
                config.text.head_dim,
                config.text.rope_theta,
                dtype,
                &device,
            )?,
            config: config.clone(),
            vocab,
            dtype,
            device,
            recorded: Mutex::new(RecordedSteps::new(false)),
        })
    }

    /// Every linear layer.
    fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        let vision = self.vision.linears().chain([&mut self.projector]);
        vision.chain(self.text.linears())
    }

    fn add(&mut self, addition: &mut Addition<'_>) -> Result<()> {
        for linear in self.linears() {
            linear.add_adapter(addition)?;
        }
        self.vision.add_adapter(addition)?;
        self.text.add_adapter(addition, &self.device)
    }

    /// Where the model computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Image features, prompt and what was generated of every prefix, one after the other, `[rows, hidden]`.
    fn embed_prefixes(&self, prefixes: &[Prefix<'_>]) -> Result<Tensor> {
        let texts = prefixes
            .iter()
            .map(|prefix| [prefix.tokens, prefix.generated].concat());
        let texts: Vec<_> = texts.collect();
        let tokens = texts.concat();
        let parts = prefixes.iter().zip(&texts);
        let parts = parts.map(|(prefix, text)| (prefix.adapter, text.len()));
        let batch = Batch::of_rows(tokens.len()).with_adapters(parts, &self.device)?;
        let tokens = Tensor::new(tokens, &self.device)?;
        let embedded = self.text.embed(&tokens, batch.adapters())?;
        let mut parts = Vec::with_capacity(2 * prefixes.len());
        let mut start = 0;
        for (prefix, text) in prefixes.iter().zip(&texts) {
            parts.push(prefix.features.clone());
            parts.push(embedded.narrow(0, start, text.len())?);
            start += text.len();
        }
        Tensor::cat(&parts, 0)
    }

    /// Runs packed rows through a range of the decoder's layers.
    pub(super) fn run(
        &self,
        x: &Tensor,
        layers: std::ops::Range<usize>,
        batch: &Batch,
        cache: &KvCache,
    ) -> Result<Tensor> {
        let mut x = x.clone();
        for layer in layers {
            x = self.text.forward_layer(&x, layer, batch, cache)?;
        }
        Ok(x)
    }

    /// A step, on a thread that computes.
    pub(super) fn compute(
        &self,
        cache: &mut KvCache,
        prefill: Option<(&mut Prefill, Budget)>,
        decode: &[DecodeRow],
    ) -> Result<StepOutput> {
        let layers = self.config.text.layers();
        let decoding = match decode {
            [] => None,
            rows => Some(Decoding::new(self, cache, rows)?),
        };
        let mut final_rows = Vec::new();
        let mut adapters: Vec<_> = decode.iter().map(|row| row.adapter).collect();
        let progress = match (prefill, decoding) {
            (None, None) => None,
            (None, Some(decoding)) => {
                if let Some(logits) = self.repeat(cache, &decoding)? {
                    return Ok(StepOutput {
                        logits: Some(logits),
                        prefill: None,
                    });
                }
                final_rows.push(self.run(&decoding.x, 0..layers, &decoding.batch, cache)?);
                None
            }
            (Some((prefill, budget)), decoding) => {
                let (prefixes, first) = (prefill.batch.rows(), prefill.layers_done);
                let (end, token_layers) = prefill_part(first, layers, prefixes, budget);
                let (x, batch) = match &decoding {
                    None => (prefill.x.clone(), prefill.batch.clone()),
                    Some(decoding) => {
                        let x = self.run(&decoding.x, 0..first, &decoding.batch, cache)?;
                        let batch = prefill.batch.with_decode(&decoding.batch, &self.device)?;
                        (Tensor::cat(&[&prefill.x, &x], 0)?, batch)
                    }
                };
                if end == layers {
                    let x = self.run(&x, first..end - 1, &batch, cache)?;
                    let x = self.text.forward_last_layer(&x, &batch, cache)?;
                    let last = x.dim(0)? - decode.len();
                    final_rows.push(x.narrow(0, last, decode.len())?);
                    final_rows.push(x.narrow(0, 0, last)?);
                    adapters.extend(&prefill.adapters);
                } else {
                    let x = self.run(&x, first..end, &batch, cache)?;
                    prefill.x = x.narrow(0, 0, prefixes)?;
                    if let Some(decoding) = &decoding {
                        let x = x.narrow(0, prefixes, decode.len())?;
                        final_rows.push(self.run(&x, end..layers, &decoding.batch, cache)?);
                    }
                }
                prefill.layers_done = end;
                Some(Progress {
                    token_layers,
                    done: end == layers,
                })
            }
        };
        let logits = match final_rows.as_slice() {
            [] => {
                self.device.synchronize()?;
                None
            }
            rows => {
                let rows = Tensor::cat(rows, 0)?;
                let parts = adapters.into_iter().map(|adapter| (adapter, 1));
                let batch = Batch::of_rows(rows.dim(0)?).with_adapters(parts, &self.device)?;
                Some(self.text.logits(&rows, &batch, self.vocab)?)
            }
        };
        Ok(StepOutput {
            logits,
            prefill: progress,
        })
    }
}

impl Model for PaliGemma {
    type Encode = Encode;
    type Prefill = Prefill;
    type Cache = KvCache;

    fn image_tokens(&self) -> usize {
        self.config.image_tokens()
    }

    fn new_cache(&self, slots: usize, context: usize) -> Result<KvCache> {
        KvCache::new(
            self.config.text.cache_shape(slots, context),
            self.dtype,
            &self.device,
        )
    }

    fn free_memory(&self) -> Option<u64> {
        match self.device.location() {
            DeviceLocation::Cuda { gpu_id } => Some(card(gpu_id).ok()?.free_bytes as u64),
            _ => None,
        }
    }

    fn clear_slot(&self, cache: &mut KvCache, slot: usize) -> Result<()> {
        cache.clear(slot)
    }

    fn add_adapter(&mut self, id: AdapterId, adapter: &Adapter) -> Result<usize> {
        let mut addition = Addition::new(id, adapter);
        let added = self.add(&mut addition);
        let left_over = addition.left_over().next().map(str::to_owned);
        let bytes = addition.bytes;
        match (added, left_over) {
            (Ok(()), None) => Ok(bytes),
            (added, left_over) => {
                self.remove_adapter(id);
                added?;
                bail!(
                    "the adapter changes {}, which it can only do with --merge-adapter",
                    left_over.unwrap_or_default()
                )
            }
        }
    }

    fn remove_adapter(&mut self, id: AdapterId) {
        self.linears().for_each(|linear| linear.remove_adapter(id));
        self.vision.remove_adapter(id);
        self.text.remove_adapter(id);
    }

    fn begin_encode(&self, images: &[Picture<'_>]) -> Result<Encode> {
        let tokens = self.config.image_tokens();
        let parts = images.iter().map(|image| (image.adapter, tokens));
        let batch = Batch::of_images(images.len(), tokens).with_adapters(parts, &self.device)?;
        let pixels: Vec<&[u8]> = images.iter().map(|image| image.pixels).collect();
        Ok(Encode {
            x: self.vision.embed(&pixels, &batch)?,
            images: images.len(),
            batch,
            layers_done: 0,
        })
    }

    fn advance_encode(&self, encode: &mut Encode, budget: Budget) -> Result<Progress> {
        let layers = self.config.vision.layers;
        let (rows, first) = (encode.x.dim(0)?, encode.layers_done);
        let end = first + budget.layers(rows, layers - first);
        run_on(&self.device, || {
            for layer in first..end {
                encode.x = self.vision.forward_layer(&encode.x, layer, &encode.batch)?;
            }
            Ok::<_, Error>(())
        })?;
        encode.layers_done = end;
        self.device.synchronize()?;
        Ok(Progress {
            token_layers: rows * (end - first),
            done: end == layers,
        })
    }

    fn finish_encode(&self, encode: Encode) -> Result<Vec<Tensor>> {
        self.projector
            .forward(&self.vision.finish(&encode.x)?, &encode.batch)?
            .chunk(encode.images, 0)?
            .iter()
            // Memory of its own, so that keeping one image does not keep the whole batch.
            .map(Tensor::force_contiguous)
            .collect()
    }

    fn begin_prefill(&self, prefixes: &[Prefix<'_>]) -> Result<Prefill> {
        let mut rows = Vec::with_capacity(prefixes.len());
        let mut positions = Vec::new();
        for prefix in prefixes {
            let bidirectional = prefix.features.dim(0)? + prefix.tokens.len();
            let len = bidirectional + prefix.generated.len();
            let masks = match prefix.generated {
                [] => None,
                _ => {
                    let window = self.config.text.window();
                    Some(ContinuedMasks::new(
                        bidirectional,
                        len,
                        window,
                        &self.device,
                    )?)
                }
            };
            rows.push(PrefixRows {
                slot: prefix.slot,
                start: positions.len(),
                len,
                masks,
            });
            positions.extend(0..len as u32);
        }
        let lens = rows.iter().map(|rows| rows.len).collect::<Vec<_>>();
        let adapters: Vec<_> = prefixes.iter().map(|prefix| prefix.adapter).collect();
        Ok(Prefill {
            x: self.embed_prefixes(prefixes)?,
            batch: Batch::of_prefixes(
                rows,
                self.rope.at(&positions)?,
                self.config.text.kv_heads,
                &self.device,
            )?
            .with_adapters(adapters.iter().copied().zip(lens), &self.device)?,
            adapters,
            layers_done: 0,
        })
    }

    fn step(
        &self,
        cache: &mut KvCache,
        prefill: Option<(&mut Prefill, Budget)>,
        decode: &[DecodeRow],
    ) -> Result<StepOutput> {
        run_on(&self.device, || self.compute(cache, prefill, decode))
    }
}

/// Where a step's part of a prefill of `rows` rows ends that begins at layer `first`, and what it counts
/// as: rows × layers. The last layer computes next to nothing. So it goes with the one before and
/// counts as none, or it would tell a wrong price of a layer.
fn prefill_part(first: usize, layers: usize, rows: usize, budget: Budget) -> (usize, usize) {
    let counted = (layers - 1).max(1);
    let end = first + budget.layers(rows, counted - first);
    let token_layers = rows * (end - first);
    match end == counted {
        true => (layers, token_layers),
        false => (end, token_layers),
    }
}
