//! What the parts of a step have cost so far, and so how much of a prefill fits into the next one.
//! It has no clock: whoever runs the steps tells it how long they took.

use std::time::Duration;

use crate::models::Budget;

/// Weight of the newest measurement in a mean. The first slice of a batch tells nearly all about
/// the next ones, so it counts much; one that was disturbed must be forgotten soon.
const NEWEST: f64 = 0.5;

/// Means of what was measured, and the time that a step may spend on new requests, beside its decode
/// rows.
///
/// A step without decode rows keeps to it as well. Cutting costs next to nothing, and what
/// came up meanwhile gets its turn: a batch that nobody waits for any more is dropped.
#[derive(Debug)]
pub(super) struct CostModel {
    /// Seconds of a step's part of an image or a prefill.
    slice: f64,
    /// Seconds that the decode rows of a step take.
    decode: Mean,
    /// Seconds per row × layer of the vision tower.
    vision: Mean,
    /// Seconds per row × layer of a prefill in the decoder.
    prefill: Mean,
}

impl CostModel {
    /// Nothing was measured yet.
    pub(super) fn new(slice: Duration) -> Self {
        Self {
            slice: slice.as_secs_f64(),
            decode: Mean::default(),
            vision: Mean::default(),
            prefill: Mean::default(),
        }
    }

    /// What the next step may run of the vision tower.
    pub(super) fn encode_budget(&self) -> Budget {
        self.budget(&self.vision)
    }

    /// What the next step may run of a prefill.
    pub(super) fn prefill_budget(&self) -> Budget {
        self.budget(&self.prefill)
    }

    /// What fits into the slice. Before the stage was measured it is nothing, for which a model runs
    /// one layer.
    fn budget(&self, stage: &Mean) -> Budget {
        let units = stage.0.map_or(0.0, |unit| self.slice / unit);
        Budget {
            // Saturates.
            token_layers: units as usize,
        }
    }

    /// The decode rows of a step took so long, measured apart from everything else.
    pub(super) fn decoded(&mut self, took: Duration) {
        self.decode.add(took.as_secs_f64());
    }

    /// So many rows × layers of the vision tower took so long, measured apart from everything else.
    pub(super) fn encoded(&mut self, token_layers: usize, took: Duration) {
        let units = token_layers.max(1) as f64;
        self.vision.add(took.as_secs_f64() / units);
    }

    /// So many rows × layers of a prefill took so long; `decodes`: together with decode rows.
    pub(super) fn prefilled(&mut self, token_layers: usize, decodes: bool, took: Duration) {
        let (units, took) = (token_layers.max(1) as f64, took.as_secs_f64());
        let decode = if decodes { self.decode.0 } else { Some(0.0) };
        match decode {
            Some(decode) if decode <= took => self.prefill.add((took - decode) / units),
            // What the decode rows take was never measured, or is less by now.
            _ => {
                let prefill = self.prefill.0.unwrap_or(0.0) * units;
                self.decode.add((took - prefill).max(0.0));
            }
        }
    }
}

/// A mean in which older measurements count ever less; `None` before the first.
#[derive(Debug, Default)]
struct Mean(Option<f64>);

impl Mean {
    fn add(&mut self, newest: f64) {
        let mean = self.0.unwrap_or(newest);
        self.0 = Some(mean + NEWEST * (newest - mean));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 256;
    const SLICE: Duration = Duration::from_millis(250);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Layers that a step would run of a stage of 27 over [`ROWS`] rows.
    fn layers(budget: Budget) -> usize {
        budget.layers(ROWS, 27)
    }

    #[test]
    fn before_anything_is_known_a_step_runs_one_layer() {
        let cost = CostModel::new(SLICE);
        assert_eq!(layers(cost.encode_budget()), 1);
        assert_eq!(layers(cost.prefill_budget()), 1);
    }

    #[test]
    fn stages_cost_differently() {
        let mut cost = CostModel::new(SLICE);
        cost.encoded(ROWS, millis(10));
        cost.prefilled(ROWS, false, millis(30));
        // 25 layers and 8 would fit; they are spread evenly over 27.
        assert_eq!(layers(cost.encode_budget()), 14);
        assert_eq!(layers(cost.prefill_budget()), 7);
    }

    #[test]
    fn what_the_decode_rows_take_is_not_the_prefill_s() {
        let mut cost = CostModel::new(SLICE);
        cost.decoded(millis(110));
        cost.prefilled(8 * ROWS, true, millis(350));
        assert_eq!(layers(cost.prefill_budget()), 7);
    }

    /// Steps of a machine that takes `decode` and, for each row × layer, `unit` seconds, until the
    /// estimates have settled. Returns what the last one's slice took.
    fn settled(cost: &mut CostModel, decode: f64, unit: f64) -> f64 {
        let mut seconds = 0.0;
        for _ in 0..30 {
            let units = cost.prefill_budget().token_layers.max(ROWS);
            seconds = unit * units as f64;
            cost.prefilled(units, true, Duration::from_secs_f64(decode + seconds));
        }
        seconds
    }

    #[test]
    fn slices_settle_at_their_time_whatever_the_machine() {
        for unit in [1e-7, 1e-6, 1e-5, 1e-4] {
            for decode in [0.001, 0.1, 0.2] {
                let mut cost = CostModel::new(SLICE);
                cost.prefilled(ROWS, false, Duration::from_secs_f64(unit * ROWS as f64));
                let seconds = settled(&mut cost, decode, unit);
                assert!(
                    (0.24..=0.2501).contains(&seconds),
                    "{unit} {decode}: {seconds}"
                );
                // When decoding takes another time, and no step shows how much, a step still takes what
                // it took.
                for changed in [0.02, 0.15] {
                    let seconds = changed + settled(&mut cost, changed, unit);
                    assert!(
                        (decode + 0.2..=decode + 0.2501).contains(&seconds),
                        "{unit} {changed}: {seconds}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_disturbed_step_is_forgotten_soon() {
        let mut cost = CostModel::new(SLICE);
        cost.prefilled(ROWS, false, millis(10));
        let before = cost.prefill_budget().token_layers;
        cost.prefilled(ROWS, false, millis(1000));
        assert!(cost.prefill_budget().token_layers < before / 40);
        for _ in 0..10 {
            cost.prefilled(ROWS, false, millis(10));
        }
        assert!(cost.prefill_budget().token_layers > before * 9 / 10);
    }

    #[test]
    fn a_clock_that_does_not_move_spoils_nothing() {
        let mut cost = CostModel::new(Duration::ZERO);
        cost.encoded(0, Duration::ZERO);
        cost.prefilled(0, true, Duration::ZERO);
        assert_eq!(cost.encode_budget().token_layers, 0);
        let mut cost = CostModel::new(SLICE);
        cost.encoded(ROWS, Duration::ZERO);
        assert_eq!(layers(cost.encode_budget()), 27);
        cost.encoded(ROWS, millis(10));
        assert_eq!(layers(cost.encode_budget()), 27);
    }
}
