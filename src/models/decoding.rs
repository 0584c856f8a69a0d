//! Rows that decode, made ready for the decoder.

use candle_core::{Result, Tensor};

use super::PaliGemma;
use crate::layers::{Batch, DecodeLayout, DecodeRow, KvCache};

/// The decode rows of one step.
pub(super) struct Decoding {
    /// Embeddings of the newest tokens, `[rows, hidden]`.
    pub x: Tensor,
    pub batch: Batch,
}

impl Decoding {
    pub fn new(model: &PaliGemma, cache: &KvCache, rows: &[DecodeRow]) -> Result<Self> {
        let tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
        let tokens = Tensor::new(tokens, &model.device)?;
        let window = model.config.text.window();
        let layout = DecodeLayout::new(rows, cache, window, &model.device)?;
        Self::of(model, &tokens, layout, rows)
    }

    /// Of tokens u32 `[rows]`. Of `rows` it takes the adapters, and the positions where the layout has none.
    pub fn of(
        model: &PaliGemma,
        tokens: &Tensor,
        layout: DecodeLayout,
        rows: &[DecodeRow],
    ) -> Result<Self> {
        let rope = match layout.positions() {
            Some(positions) => model.rope.at_rows(positions)?,
            None => {
                let positions: Vec<u32> = rows.iter().map(|row| row.position as u32).collect();
                model.rope.at(&positions)?
            }
        };
        let adapters = rows.iter().map(|row| (row.adapter, 1));
        let batch = Batch::of_decode(layout, rope).with_adapters(adapters, &model.device)?;
        Ok(Self {
            x: model.text.embed(tokens, batch.adapters())?,
            batch,
        })
    }
}
