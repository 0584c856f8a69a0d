//! Rows that decode, made ready for the decoder.

use candle_core::{Result, Tensor};

use super::PaliGemma;
use crate::layers::{Batch, DecodeLayout, DecodeRow, KvCache};

/// The decode rows of one step.
#[derive(Debug, Clone)]
pub(super) struct Decoding {
    /// Embeddings of the newest tokens, `[rows, hidden]`.
    pub x: Tensor,
    pub batch: Batch,
}

impl Decoding {
    pub fn new(model: &PaliGemma, cache: &KvCache, rows: &[DecodeRow]) -> Result<Self> {
        let tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
        let window = model.config.text.window();
        let layout = DecodeLayout::new(rows, cache, window, &model.device)?;
        let rope = match layout.positions() {
            Some(positions) => model.rope.at_rows(positions)?,
            None => {
                let positions: Vec<u32> = rows.iter().map(|row| row.position as u32).collect();
                model.rope.at(&positions)?
            }
        };
        let adapters = rows.iter().map(|row| (row.adapter, 1));
        let batch = Batch::of_decode(layout, rope).with_adapters(adapters, &model.device)?;
        let tokens = Tensor::new(tokens, &model.device)?;
        Ok(Self {
            x: model.text.embed(&tokens, batch.adapters())?,
            batch,
        })
    }

    /// Copies as many other rows, which reach as far, to where these are.
    pub fn overwrite(&self, other: &Self) -> Result<()> {
        self.x.slice_set(&other.x, 0, 0)?;
        self.batch.overwrite(&other.batch)
    }
}
