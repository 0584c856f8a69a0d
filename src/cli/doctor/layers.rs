//! Layers of real dimensions with random weights.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};
use paligemma_server::kernels::{Epilogue, LowRank, Matmul, Outputs, Update};
use paligemma_server::layers::{Batch, DecodeLayout, DecodeRow, KvCache, PrefixRows, RopeTable};
use paligemma_server::models::WeightFormat;
use paligemma_server::models::config::TextConfig;
use paligemma_server::models::gemma::DecoderLayer;
use paligemma_server::models::siglip::EncoderLayer;

use super::checks::{Named, on_cpu};
use super::random_model::{Shape, noise, weights};

/// Rows of prefixes, each of which has a slot, and is followed by a row that decodes.
const PREFIXES: [usize; 4] = [275, 274, 1100, 31];
/// The last of them comes with rows that decode.
const LATE: usize = PREFIXES.len() - 1;
/// Rows that decode together, and how many keys the longest of them sees.
const MANY: usize = 64;
const MANY_KEYS: usize = 640;
const IMAGES: usize = 2;

/// A layer of the decoder, and what it needs beside its input.
struct Decoder<'a> {
    config: &'a TextConfig,
    layer: DecoderLayer,
    rope: RopeTable,
    cache: KvCache,
    format: WeightFormat,
    device: &'a Device,
}

impl<'a> Decoder<'a> {
    fn new(
        config: &'a TextConfig,
        device: &'a Device,
        format: WeightFormat,
        (slots, context): (usize, usize),
    ) -> Result<Self> {
        let dtype = format.activation_dtype();
        Ok(Self {
            config,
            layer: DecoderLayer::load(&weights(device, format).pp("layer"), config, 0)?,
            rope: RopeTable::new(2048, config.head_dim, config.rope_theta, dtype, device)?,
            cache: KvCache::new(config.cache_shape(slots, context), dtype, device)?,
            format,
            device,
        })
    }

    /// The same values in every format, `[rows, hidden]`.
    fn input(&self, rows: usize, seed: usize) -> Result<Tensor> {
        noise(rows * self.config.hidden_size, seed, self.device)?
            .to_dtype(self.format.activation_dtype())?
            .reshape((rows, self.config.hidden_size))
    }

    fn forward(&self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        on_cpu(&self.layer.forward(x, batch, self.cache.layer(0))?)
    }

    fn prefixes(&self, slots: Range<usize>) -> Result<(Tensor, Batch)> {
        let mut start = 0;
        let (mut rows, mut positions) = (Vec::new(), Vec::new());
        for slot in slots.clone() {
            let len = PREFIXES[slot];
            rows.push(PrefixRows {
                slot,
                start,
                len,
                masks: None,
            });
            start += len;
            positions.extend(0..len as u32);
        }
        let x = self.input(start, slots.start)?;
        let rope = self.rope.at(&positions)?;
        let kv_heads = self.config.kv_heads;
        Ok((x, Batch::of_prefixes(rows, rope, kv_heads, self.device)?))
    }

    /// Rows of the first slots, at these positions.
    fn decoding(&self, positions: &[usize]) -> Result<Batch> {
        let row = |(slot, &position): (usize, &usize)| DecodeRow {
            slot,
            position,
            token: 0,
            adapter: None,
        };
        let rows: Vec<_> = positions.iter().enumerate().map(row).collect();
        let window = self.config.window();
        let layout = DecodeLayout::new(&rows, &self.cache, window, self.device)?;
        let positions: Vec<_> = positions.iter().map(|&position| position as u32).collect();
        Ok(Batch::of_decode(layout, self.rope.at(&positions)?))
    }
}

/// A layer's outputs for prefixes, for rows that decode after them, and for a prefix and such rows in one step.
pub fn decoder_layer(config: &TextConfig, device: &Device, format: WeightFormat) -> Result<Named> {
    let decoder = Decoder::new(config, device, format, (PREFIXES.len(), 1152))?;
    let mut outputs = Vec::new();
    let (x, batch) = decoder.prefixes(0..LATE)?;
    outputs.push(("prefixes", decoder.forward(&x, &batch)?));

    let decoding = decoder.decoding(&PREFIXES[..LATE])?;
    let tokens = decoder.input(LATE, 99)?;
    outputs.push(("rows that decode", decoder.forward(&tokens, &decoding)?));

    let (x, batch) = decoder.prefixes(LATE..LATE + 1)?;
    let batch = batch.with_decode(&decoding, device)?;
    let x = Tensor::cat(&[&x, &tokens], 0)?;
    let layer = decoder.cache.layer(0);
    let y = decoder.layer.forward_last(&x, &batch, layer)?;
    outputs.push(("a prefix's last row and rows that decode", on_cpu(&y)?));

    let one = decoder.decoding(&PREFIXES[..1])?;
    let y = decoder.forward(&tokens.narrow(0, 0, 1)?, &one)?;
    outputs.push(("a row that decodes alone", y));
    Ok(outputs)
}

/// A layer's output for many rows that decode, each after another number of random keys.
pub fn many_rows(config: &TextConfig, device: &Device, format: WeightFormat) -> Result<Named> {
    let decoder = Decoder::new(config, device, format, (MANY, MANY_KEYS))?;
    let layer = decoder.cache.layer(0);
    for (seed, tensor) in [&layer.k, &layer.v].into_iter().enumerate() {
        let values = noise(tensor.elem_count(), seed, device)?;
        let values = values.to_dtype(tensor.dtype())?.reshape(tensor.shape())?;
        tensor.slice_set(&values, 0, 0)?;
    }
    let positions: Vec<_> = (0..MANY).map(|slot| slot * 101 % MANY_KEYS).collect();
    let batch = decoder.decoding(&positions)?;
    let y = decoder.forward(&decoder.input(MANY, 98)?, &batch)?;
    Ok(vec![("64 rows that decode", y)])
}

/// A layer's output for the patches of some images.
pub fn encoder_layer(device: &Device, format: WeightFormat) -> Result<Named> {
    let config = Shape::PaliGemma.config().vision;
    let layer = EncoderLayer::load(&weights(device, format).pp("layer"), &config)?;
    let rows = IMAGES * config.patches();
    let x = noise(rows * config.hidden_size, 1, device)?
        .to_dtype(format.activation_dtype())?
        .reshape((rows, config.hidden_size))?;
    let y = layer.forward(&x, &Batch::of_images(IMAGES, config.patches()))?;
    Ok(vec![("two images", on_cpu(&y)?)])
}

const IN: usize = 2048;
const OUT: usize = 2560;

fn weight(device: &Device, format: WeightFormat) -> Result<Matmul> {
    let weight = noise(OUT * IN, 1, &format.read_device(device))?.reshape((OUT, IN))?;
    let weight = (weight * 0.02)?.to_dtype(format.read_dtype())?;
    Matmul::new(vec![weight], Outputs::SideBySide, format, device)
}

fn input(rows: usize, device: &Device, format: WeightFormat) -> Result<Tensor> {
    let x = noise(rows * IN, 4, device)?.reshape((rows, IN))?;
    x.to_dtype(format.activation_dtype())
}

/// A product with what two adapters add to rows of theirs, beside rows of none.
pub fn adapted_product(device: &Device, format: WeightFormat) -> Result<Named> {
    let weight = weight(device, format)?;
    let low_rank = |ranks: usize| {
        let down = (noise(ranks * IN, 2, &Device::Cpu)?.reshape((ranks, IN))? * 0.02)?;
        let up = noise(OUT * ranks, 3, &Device::Cpu)?.reshape((OUT, ranks))?;
        LowRank::new(down, &up, None, &weight, format, device)
    };
    let x = input(5, device, format)?;
    let adapters = [(low_rank(16)?, [0u32, 3].as_slice()), (low_rank(8)?, &[1])];
    let ids = adapters
        .each_ref()
        .map(|(_, rows)| Tensor::new(*rows, device));
    let [first, second] = ids;
    let ids = [first?, second?];
    let updates = adapters
        .iter()
        .zip(&ids)
        .map(|((low_rank, rows), ids)| Update {
            rows,
            ids,
            low_rank,
            x: &x,
            many: 0,
        });
    let updates: Vec<_> = updates.collect();
    let epilogue = Epilogue {
        updates: &updates,
        ..Epilogue::default()
    };
    let y = weight.forward(&x, None, 0, epilogue)?;
    Ok(vec![("what two of them add to a product", on_cpu(&y)?)])
}

/// The sum of all differences between rows of a product of many rows and the same rows alone; `None` where
/// kernels multiply that are not ours and promise no more than that both are near.
pub fn alone_and_together(device: &Device, format: WeightFormat) -> Result<Option<f64>> {
    let ours = match device.is_cuda() {
        true => format == WeightFormat::Q8_0,
        false => cfg!(target_arch = "x86_64"),
    };
    if !ours {
        return Ok(None);
    }
    let (weight, x) = (weight(device, format)?, input(MANY, device, format)?);
    let product = |x: &Tensor| on_cpu(&weight.forward(x, None, 0, Epilogue::default())?);
    let together = product(&x)?;
    let mut sum = 0.0;
    for row in [0, 1, 17, MANY - 1] {
        let difference = (product(&x.narrow(0, row, 1)?)? - together.narrow(0, row, 1)?)?;
        sum += f64::from(difference.abs()?.sum_all()?.to_scalar::<f32>()?);
    }
    Ok(Some(sum))
}
