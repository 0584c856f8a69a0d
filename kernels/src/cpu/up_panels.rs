//! The second half of a product of low rank, in the order of the weight that it is added to.

use std::ops::Range;

use half::f16;

use super::isa::{COLUMNS, Isa};
use super::layout::PackedShape;

/// A matrix `[out, ranks]` in panels like those of a weight `[out, in]`: for each panel, the ranks that
/// count for its columns, 16 values each.
#[derive(Debug)]
pub struct UpPanels {
    panels: Vec<Panel>,
    values: Values,
    /// 16 values of every panel.
    bias: Option<Vec<f32>>,
    /// Values of halves are this much too small or too large.
    unit: f32,
}

#[derive(Debug)]
enum Values {
    Floats(Vec<f32>),
    Halves(Vec<f16>),
}

/// Where a panel's values are.
#[derive(Debug)]
struct Panel {
    ranks: Range<usize>,
    start: usize,
}

/// What is added to the sums of one row: a row of the first half's product, through `up`.
#[derive(Debug, Clone, Copy)]
pub struct RowUpdate<'a> {
    pub up: &'a UpPanels,
    /// A value for each rank, times [`UpPanels::unit`].
    pub values: &'a [f32],
}

impl UpPanels {
    /// Of rows of `ranks` values, one for each of the weight's rows, in halves beside a quantised weight;
    /// `bias` has a value for each row.
    ///
    /// # Panics
    /// When there aren't as many.
    pub fn new(
        rows: &[f32],
        ranks: usize,
        bias: Option<&[f32]>,
        shape: PackedShape,
        in_halves: bool,
    ) -> Self {
        assert_eq!(rows.len(), shape.out_features * ranks);
        assert!(bias.is_none_or(|bias| bias.len() == shape.out_features));
        let row = |row: usize| &rows[row * ranks..][..ranks];
        let (mut panels, mut values) = (Vec::new(), Vec::new());
        for panel in 0..shape.panels() {
            let columns = shape.rows_of(panel);
            let counts = |rank: &usize| columns.clone().any(|column| row(column)[*rank] != 0.0);
            let first = (0..ranks).find(counts).unwrap_or(0);
            let end = (0..ranks).rfind(counts).map_or(first, |last| last + 1);
            panels.push(Panel {
                ranks: first..end,
                start: values.len(),
            });
            for rank in first..end {
                let of_columns = (0..COLUMNS).map(|i| columns.clone().nth(i));
                values.extend(of_columns.map(|it| it.map_or(0.0, |column| row(column)[rank])));
            }
        }
        let bias = bias.map(|bias| {
            let of_panel = |panel| {
                let columns = shape.rows_of(panel);
                (0..COLUMNS).map(move |i| columns.clone().nth(i).map_or(0.0, |column| bias[column]))
            };
            (0..shape.panels()).flat_map(of_panel).collect()
        });
        let largest = values.iter().fold(0f32, |max, value| max.max(value.abs()));
        match in_halves && largest > 0.0 {
            true => Self {
                panels,
                values: Values::Halves(values.iter().map(|v| f16::from_f32(v / largest)).collect()),
                bias,
                unit: largest,
            },
            false => Self {
                panels,
                values: Values::Floats(values),
                bias,
                unit: 1.0,
            },
        }
    }

    /// What the first half's product is to be multiplied with before it meets the values here.
    pub fn unit(&self) -> f32 {
        self.unit
    }
}

impl RowUpdate<'_> {
    /// Adds to a row's sums of a group of panels whose first is `panel`.
    ///
    /// # Safety
    /// The processor has the instructions of `I`, and the sums are of panels of the weight.
    #[inline(always)]
    pub unsafe fn add<I: Isa>(&self, panel: usize, sums: &mut [f32]) {
        for (sums, index) in sums.chunks_exact_mut(COLUMNS).zip(panel..) {
            let at = &self.up.panels[index];
            let ranks = &self.values[at.ranks.clone()];
            // SAFETY: a panel has 16 values for each of its ranks, and 16 of its bias.
            unsafe {
                let mut sum = I::load(sums.as_ptr());
                match &self.up.values {
                    Values::Floats(values) => {
                        let values = &values[at.start..][..ranks.len() * COLUMNS];
                        for (&rank, up) in ranks.iter().zip(values.chunks_exact(COLUMNS)) {
                            sum = I::mul_add(I::splat(rank), I::load(up.as_ptr()), sum);
                        }
                    }
                    Values::Halves(values) => {
                        let values = &values[at.start..][..ranks.len() * COLUMNS];
                        for (&rank, up) in ranks.iter().zip(values.chunks_exact(COLUMNS)) {
                            sum = I::mul_add(I::splat(rank), I::load_half(up.as_ptr()), sum);
                        }
                    }
                }
                if let Some(bias) = &self.up.bias {
                    let bias = I::load(bias[index * COLUMNS..][..COLUMNS].as_ptr());
                    sum = I::mul_add(I::splat(1.0), bias, sum);
                }
                I::store(sums.as_mut_ptr(), sum);
            }
        }
    }
}
