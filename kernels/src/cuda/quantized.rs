//! Products with weights of 8 bits.

use candle_core::{DType, Device, Result, Tensor, bail};
use half::f16;
use rayon::prelude::*;

use super::arguments::{Kernel, Second, WARPS, optional_pointer, size, suffix};
use super::attention::matrices;
use super::launch::{Gpu, device, is_ampere, multiply, multiprocessors, pointer, uninit};
use super::norm::rms_norm;
use super::product::{changes, finish, finish_to};
use super::ptx;
use crate::cpu::quantize_q8;
use crate::{Epilogue, Norm};

/// Rows and columns of a tile, and its bytes.
const SIDE: usize = 16;
const BLOCK: usize = 32;
const TILE: usize = SIDE * BLOCK;

/// Values that a thread quantises, and of a row that is normalised at most.
const OF_THREAD: usize = 16;
const WIDEST: usize = 1024 * OF_THREAD;

/// A weight in tiles: see quantized.cu.
#[derive(Debug)]
pub(crate) struct Tiles {
    /// u8 `[parts · tiles, blocks, 512]`.
    values: Tensor,
    /// f16 `[parts · tiles, blocks, 16]`.
    scales: Tensor,
    parts: usize,
    /// Rows of a part.
    width: usize,
    in_features: usize,
    /// Whether the card is of compute capability 8.0 or later.
    ampere: bool,
}

/// Rows in tiles.
struct Quantized {
    /// u8 `[tiles, blocks, 512]`.
    values: Tensor,
    /// f32 `[tiles, blocks, 16]`.
    scales: Tensor,
}

impl Tiles {
    /// Quantises `rows` of equal length; those of a gated weight are two parts.
    ///
    /// # Errors
    /// When memory runs out or the device fails.
    pub(crate) fn new(rows: &[&[f32]], gated: bool, device: &Device) -> Result<Self> {
        let in_features = rows.first().map_or(0, |row| row.len());
        let parts = if gated { 2 } else { 1 };
        let width = rows.len() / parts;
        let (tiles, blocks) = (width.div_ceil(SIDE), in_features.div_ceil(BLOCK));
        let mut values = vec![0u8; parts * tiles * blocks * TILE];
        let mut scales = vec![f16::ZERO; parts * tiles * blocks * SIDE];
        let of_tiles = values.par_chunks_mut(blocks * TILE);
        of_tiles
            .zip(scales.par_chunks_mut(blocks * SIDE))
            .enumerate()
            .for_each(|(tile, (values, scales))| {
                let first = tile % tiles * SIDE;
                let part = &rows[tile / tiles * width..][..width];
                for (side, row) in part[first..].iter().take(SIDE).enumerate() {
                    pack_row(row, side, values, scales);
                }
            });
        let shape = |of_tile| (parts * tiles, blocks, of_tile);
        let values = Tensor::from_vec(values, shape(TILE), device)?;
        Ok(Self {
            scales: Tensor::from_vec(scales, shape(SIDE), device)?,
            parts,
            width,
            in_features,
            ampere: is_ampere(&super::launch::device(&values)?)?,
            values,
        })
    }

    /// `x · Wᵀ` for f32 `x` `[rows, in]`, finished as `epilogue` says, or half as wide if the weight is
    /// gated. The rows are normalised before, if there is a norm. The first `many` rows are of a kind that
    /// comes in great numbers: with those it is quicker to unpack the weight and to let cuBLAS multiply.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn product(
        &self,
        x: &Tensor,
        norm: Option<Norm<'_>>,
        many: usize,
        epilogue: Epilogue<'_>,
    ) -> Result<Tensor> {
        let x = x.contiguous()?;
        let (rows, width) = x.dims2()?;
        if width != self.in_features {
            bail!("rows of {width} values for {} inputs", self.in_features)
        }
        let many = if self.ampere { many } else { 0 };
        // What adapters add comes before the rest.
        let raw = !epilogue.updates.is_empty();
        let own = if raw { Epilogue::default() } else { epilogue };
        let gated = self.parts == 2 && !raw;
        let width = if gated { 1 } else { self.parts } * self.width;
        let y = uninit(&device(&x)?, (rows, width), DType::F32)?;
        for (start, end, unpacked) in [(0, many, true), (many, rows, false)] {
            if start == end {
                continue;
            }
            let part = |all: &Tensor| all.narrow(0, start, end - start)?.contiguous();
            let residual = own.residual.map(part).transpose()?;
            let residual = residual.as_ref();
            let own = Epilogue { residual, ..own };
            // Of the result, which is contiguous, this is a view.
            let (x, y) = (part(&x)?, part(&y)?);
            match unpacked {
                true => self.unpacked_product(&x, norm, gated, own, &y)?,
                false => self.quantized_product(&x, norm, gated, own, &y)?,
            }
        }
        match raw {
            true => {
                let y = crate::low_rank::updated(y, epilogue.updates)?;
                finish(&y, self.parts == 2, epilogue)
            }
            false => Ok(y),
        }
    }

    /// To `y`, with the weight unpacked to bf16 for as long as it takes.
    fn unpacked_product(
        &self,
        x: &Tensor,
        norm: Option<Norm<'_>>,
        gated: bool,
        epilogue: Epilogue<'_>,
        y: &Tensor,
    ) -> Result<()> {
        let x = match norm {
            Some(norm) => rms_norm(x, norm.scale, None, norm.eps)?,
            None => x.clone(),
        };
        let rows = x.dim(0)?;
        let device = device(&x)?;
        let out = self.parts * self.width;
        let product = match changes(gated, epilogue) {
            true => uninit(&device, (rows, out), DType::F32)?,
            false => y.clone(),
        };
        let weight = self.unpack(None, out, DType::BF16, &x)?;
        // SAFETY: the matrices are those of tensors with these shapes.
        unsafe {
            multiply(
                &device,
                1,
                (rows, out, self.in_features),
                matrices(&x.to_dtype(DType::BF16)?.unsqueeze(0)?)?,
                (matrices(&weight.unsqueeze(0)?)?, Second::Transposed),
                matrices(&product.unsqueeze(0)?)?,
            )
        }?;
        match changes(gated, epilogue) {
            true => finish_to(&product, gated, epilogue, y),
            false => Ok(()),
        }
    }

    /// To `y`, with rows that are quantised for it.
    fn quantized_product(
        &self,
        x: &Tensor,
        norm: Option<Norm<'_>>,
        gated: bool,
        epilogue: Epilogue<'_>,
        y: &Tensor,
    ) -> Result<()> {
        let device = device(x)?;
        let (rows, tiles) = (x.dim(0)?, self.tiles());
        let parts = if gated { 1 } else { self.parts };
        let quantized = self.quantize(x, norm)?;
        let at_once = rows.div_ceil(SIDE).next_power_of_two().min(4);
        let all = parts * tiles;
        let split = split(&device, all)?;
        let gate = if gated { "_gated" } else { "" };
        let kernel = Kernel {
            module: self.module(),
            name: &format!("product{gate}_{at_once}_q8"),
            grid: (
                rows.div_ceil(SIDE * at_once) as u32,
                all.div_ceil(WARPS / split) as u32,
                1,
            ),
            threads: WARPS * 32,
            shared: 0,
        };
        let arguments = [
            pointer(&quantized.values)?.into(),
            pointer(&quantized.scales)?.into(),
            pointer(&self.values)?.into(),
            pointer(&self.scales)?.into(),
            optional_pointer(epilogue.bias)?.into(),
            optional_pointer(epilogue.residual)?.into(),
            pointer(y)?.into(),
            size(rows)?,
            size(self.width)?,
            size(parts)?,
            size(tiles)?,
            size(self.blocks())?,
            size(split)?,
            epilogue.gelu.into(),
        ];
        // SAFETY: as quantized.cu says; bias and residual have the product's width and shape.
        unsafe { kernel.launch(&device, &arguments) }
    }

    fn quantize(&self, x: &Tensor, norm: Option<Norm<'_>>) -> Result<Quantized> {
        let device = device(x)?;
        let (tiles, blocks) = (x.dim(0)?.div_ceil(SIDE), self.blocks());
        let columns = blocks * BLOCK;
        let threads = match norm {
            Some(_) if columns > WIDEST => {
                bail!("rows of {columns} values are wider than the kernel takes, which is {WIDEST}")
            }
            // All of a row in one block.
            Some(_) => (columns / 4).min(256).max(columns.div_ceil(OF_THREAD)),
            None => columns.div_ceil(OF_THREAD).min(256),
        };
        let threads = threads.next_multiple_of(32);
        let quantized = Quantized {
            values: uninit(&device, (tiles, blocks, TILE), DType::U8)?,
            scales: uninit(&device, (tiles, blocks, SIDE), DType::F32)?,
        };
        let kernel = Kernel {
            module: self.module(),
            name: "quantize_q8",
            grid: (
                x.dim(0)? as u32,
                columns.div_ceil(threads * OF_THREAD) as u32,
                1,
            ),
            threads,
            shared: 0,
        };
        let arguments = [
            pointer(x)?.into(),
            optional_pointer(norm.map(|norm| norm.scale))?.into(),
            norm.map_or(0.0, |norm| norm.eps).into(),
            pointer(&quantized.values)?.into(),
            pointer(&quantized.scales)?.into(),
            size(self.in_features)?,
            size(blocks)?,
        ];
        // SAFETY: as quantized.cu says; the threads have four fours each at most.
        unsafe { kernel.launch(&device, &arguments) }?;
        Ok(quantized)
    }

    /// Rows of the weight: `ids` u32 `[n]` to f32 `[n, in]`.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        self.unpack(Some(ids), ids.dim(0)?, DType::F32, ids)
    }

    /// Rows of the weight, `count` in all, to where `near` lies.
    fn unpack(
        &self,
        ids: Option<&Tensor>,
        count: usize,
        dtype: DType,
        near: &Tensor,
    ) -> Result<Tensor> {
        let device = device(near)?;
        let out = uninit(&device, (count, self.in_features), dtype)?;
        let kernel = Kernel {
            module: self.module(),
            name: &format!("unpack_q8_{}", suffix(dtype)?),
            grid: (count as u32, 1, 1),
            threads: self.in_features.div_ceil(8).next_multiple_of(32).min(256),
            shared: 0,
        };
        let arguments = [
            pointer(&self.values)?.into(),
            pointer(&self.scales)?.into(),
            optional_pointer(ids)?.into(),
            pointer(&out)?.into(),
            size(self.in_features)?,
            size(self.width)?,
            size(self.tiles())?,
            size(self.blocks())?,
        ];
        // SAFETY: as quantized.cu says; ids are those of rows, which the tokenizer's vocabulary sees to.
        unsafe { kernel.launch(&device, &arguments) }?;
        Ok(out)
    }

    /// The kernels' text for the card.
    fn module(&self) -> (&'static str, &'static str) {
        match self.ampere {
            true => ("quantized_80", ptx::QUANTIZED_80),
            false => ("quantized", ptx::QUANTIZED),
        }
    }

    /// Tiles of a part, one below another.
    fn tiles(&self) -> usize {
        self.width.div_ceil(SIDE)
    }

    /// Tiles side by side.
    fn blocks(&self) -> usize {
        self.in_features.div_ceil(BLOCK)
    }
}

/// How many warps share a tile, so that there are two blocks for every multiprocessor.
pub(super) fn split(device: &Gpu, tiles: usize) -> Result<usize> {
    let wanted = 2 * WARPS * multiprocessors(device)?;
    Ok(wanted.div_ceil(tiles).next_power_of_two().min(WARPS))
}

/// Puts a row at its place in a tile and those beside it.
fn pack_row(row: &[f32], side: usize, values: &mut [u8], scales: &mut [f16]) {
    for (block, group) in row.chunks(BLOCK).enumerate() {
        let (scale, quantized) = quantize_q8(group);
        scales[block * SIDE + side] = scale;
        for (column, value) in quantized.into_iter().enumerate() {
            let lane = side % 8 * 4 + column / 8;
            // Signed.
            values[block * TILE + lane * 16 + side / 8 * 8 + column % 8] = value ^ 0x80;
        }
    }
}
