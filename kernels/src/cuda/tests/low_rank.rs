//! What adapters add, against products of whole matrices.

use candle_core::{Device, Result, Tensor};

use super::super::arguments::Adapters;
use super::super::{LowRankRows, add_low_rank};
use super::{DTYPES, assert_close, noise, wide};

#[test]
fn several_adapters_add_to_their_rows() -> Result<()> {
    // More than go together, and rows that have none.
    const COUNT: usize = Adapters::MOST + 3;
    const ROWS: usize = 2 * COUNT + 5;
    for dtype in DTYPES {
        for (width, out) in [(64, 40), (33, 21)] {
            let x = noise(&[ROWS, width], 1, dtype);
            let y = noise(&[ROWS, out], 2, dtype);
            let mut right = wide(&y);
            let mut all = Vec::new();
            for adapter in 0..COUNT {
                let ranks = 1 + adapter % 20;
                let down = noise(&[ranks, width], 3 + adapter, dtype);
                let up = noise(&[ranks, out], 50 + adapter, dtype);
                let bias = (adapter % 2 == 1).then(|| noise(&[out], 100 + adapter, dtype));
                let rows: Vec<u32> = match adapter {
                    0 => vec![0, 7, ROWS as u32 - 1],
                    7 => vec![(COUNT + adapter) as u32],
                    _ => vec![adapter as u32, (COUNT + adapter) as u32],
                };
                let rows = Tensor::new(rows, &Device::Cpu)?;
                let projected = wide(&x).index_select(&rows, 0)?.matmul(&wide(&down).t()?)?;
                let mut added = projected.matmul(&wide(&up))?;
                if let Some(bias) = &bias {
                    added = added.broadcast_add(&wide(bias))?;
                }
                right = right.index_add(&rows, &added, 0)?;
                all.push((down, up, bias, rows));
            }
            let all: Vec<_> = all
                .iter()
                .map(|(down, up, bias, rows)| LowRankRows {
                    down,
                    up,
                    bias: bias.as_ref(),
                    rows,
                })
                .collect();
            add_low_rank(&x, &y, &all)?;
            assert_close(&format!("{width} to {out}"), &y, &right);
        }
    }
    Ok(())
}
