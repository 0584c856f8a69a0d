//! What the parts of a step have cost so far, and so how much of a prefill fits into the next one.
//! It has no clock: whoever runs the steps tells it how long they took.

use std::time::Duration;

use crate::models::Budget;

/// Weight of the newest measurement in a mean. The first slice of a batch tells nearly all about
/// the next ones, so it counts much; one that was disturbed must be forgotten soon.
const NEWEST: f64 = 0.5;

/// Means of what was measured, and the gap that steps have to keep to.
///
/// A step without decode rows keeps to the gap as well. Cutting costs next to nothing, and what
/// came up meanwhile gets its turn: a batch that nobody waits for any more is dropped.
#[derive(Debug)]
pub(super) struct CostModel {
    /// Seconds that a step may take.
    max_gap: f64,
    /// Seconds that the decode rows of a step take.
    decode: Mean,
    /// Seconds per row × layer of the vision tower.
    vision: Mean,
    /// Seconds per row × layer of a prefill in the decoder.
    prefill: Mean,
}

impl CostModel {
    /// Nothing was measured yet.
    pub(super) fn new(max_gap: Duration) -> Self {
        Self {
            max_gap: max_gap.as_secs_f64(),
            decode: Mean::default(),
            vision: Mean::default(),
            prefill: Mean::default(),
        }
    }

    /// What the next step may run of the vision tower; `decodes`: it has decode rows as well.
    pub(super) fn encode_budget(&self, decodes: bool) -> Budget {
        self.budget(&self.vision, decodes)
    }

    /// What the next step may run of a prefill; `decodes`: it has decode rows as well.
    pub(super) fn prefill_budget(&self, decodes: bool) -> Budget {
        self.budget(&self.prefill, decodes)
    }

    /// What fits beside the decode rows into the gap. Before both were measured it is nothing, for
    /// which a model runs one layer.
    fn budget(&self, stage: &Mean, decodes: bool) -> Budget {
        let fits = |(unit, decode): (f64, f64)| (self.max_gap - decode) / unit;
        let units = stage.0.zip(self.decode(decodes)).map_or(0.0, fits);
        Budget {
            // Saturates: nothing is left below 0.
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
        match self.decode(decodes) {
            Some(decode) if decode <= took => self.prefill.add((took - decode) / units),
            // What the decode rows take was never measured, or is less by now.
            _ => {
                let prefill = self.prefill.0.unwrap_or(0.0) * units;
                self.decode.add((took - prefill).max(0.0));
            }
        }
    }

    fn decode(&self, decodes: bool) -> Option<f64> {
        match decodes {
            true => self.decode.0,
            false => Some(0.0),
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
    const GAP: Duration = Duration::from_millis(250);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Layers that a step would run of a stage of 27 over [`ROWS`] rows.
    fn layers(budget: Budget) -> usize {
        budget.layers(ROWS, 27)
    }

    #[test]
    fn before_anything_is_known_a_step_runs_one_layer() {
        let mut cost = CostModel::new(GAP);
        assert_eq!(layers(cost.encode_budget(false)), 1);
        assert_eq!(layers(cost.prefill_budget(false)), 1);
        cost.encoded(ROWS, millis(10));
        cost.prefilled(ROWS, false, millis(10));
        assert_eq!(layers(cost.encode_budget(true)), 1, "decoding is unknown");
        assert_eq!(layers(cost.prefill_budget(true)), 1, "decoding is unknown");
    }

    #[test]
    fn stages_cost_differently_and_decoding_leaves_less() {
        let mut cost = CostModel::new(GAP);
        cost.encoded(ROWS, millis(10));
        cost.prefilled(ROWS, false, millis(30));
        cost.decoded(millis(110));
        // 25 layers and 14 would fit, 8 and 4 beside decode rows; they are spread evenly over 27.
        assert_eq!(layers(cost.encode_budget(false)), 14);
        assert_eq!(layers(cost.encode_budget(true)), 14);
        assert_eq!(layers(cost.prefill_budget(false)), 7);
        assert_eq!(layers(cost.prefill_budget(true)), 4);
    }

    #[test]
    fn when_decoding_alone_takes_the_gap_a_prefill_still_goes_on() {
        let mut cost = CostModel::new(GAP);
        cost.encoded(ROWS, millis(1));
        cost.decoded(millis(300));
        assert_eq!(cost.encode_budget(true).token_layers, 0);
        assert_eq!(layers(cost.encode_budget(true)), 1);
    }

    /// Steps of a machine that takes `decode` and, for each row × layer, `unit` seconds, until the
    /// estimates have settled. Returns what the last one took.
    fn settled(cost: &mut CostModel, decode: f64, unit: f64) -> f64 {
        let mut seconds = 0.0;
        for _ in 0..30 {
            let units = cost.prefill_budget(true).token_layers.max(ROWS);
            seconds = decode + unit * units as f64;
            cost.prefilled(units, true, Duration::from_secs_f64(seconds));
        }
        seconds
    }

    #[test]
    fn steps_settle_at_the_gap_whatever_the_machine() {
        for unit in [1e-7, 1e-6, 1e-5, 1e-4] {
            for decode in [0.001, 0.1, 0.2] {
                let mut cost = CostModel::new(GAP);
                cost.prefilled(ROWS, false, Duration::from_secs_f64(unit * ROWS as f64));
                let seconds = settled(&mut cost, decode, unit);
                assert!(
                    (0.24..=0.2501).contains(&seconds),
                    "{unit} {decode}: {seconds}"
                );
                // Without a step that only decodes, it follows a change of what decoding takes.
                for changed in [0.02, 0.15] {
                    let seconds = settled(&mut cost, changed, unit);
                    assert!(
                        (0.2..=0.2501).contains(&seconds),
                        "{unit} {changed}: {seconds}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_disturbed_step_is_forgotten_soon() {
        let mut cost = CostModel::new(GAP);
        cost.prefilled(ROWS, false, millis(10));
        let before = cost.prefill_budget(false).token_layers;
        cost.prefilled(ROWS, false, millis(1000));
        assert!(cost.prefill_budget(false).token_layers < before / 40);
        for _ in 0..10 {
            cost.prefilled(ROWS, false, millis(10));
        }
        assert!(cost.prefill_budget(false).token_layers > before * 9 / 10);
    }

    #[test]
    fn a_clock_that_does_not_move_spoils_nothing() {
        let mut cost = CostModel::new(Duration::ZERO);
        cost.encoded(0, Duration::ZERO);
        cost.prefilled(0, true, Duration::ZERO);
        assert_eq!(cost.encode_budget(true).token_layers, 0);
        let mut cost = CostModel::new(GAP);
        cost.encoded(ROWS, Duration::ZERO);
        assert_eq!(layers(cost.encode_budget(false)), 27);
        cost.encoded(ROWS, millis(10));
        assert_eq!(layers(cost.encode_budget(false)), 27);
    }
}
