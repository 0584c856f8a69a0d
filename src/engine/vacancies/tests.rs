use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::scheduler::{Limits, Scheduler};
use super::*;

const MS: Duration = Duration::from_millis(1);

fn times(start: Instant, ms: impl IntoIterator<Item = u32>) -> Vacancies {
    let mut vacancies = Vacancies::default();
    for ms in ms {
        vacancies.free(start + MS * ms);
    }
    vacancies
}

#[test]
fn a_place_in_a_steady_row_is_free_at_the_next_moment() {
    let start = Instant::now();
    let steady = times(start, (0..=10).map(|n| n * 200));
    let now = start + MS * 2050;
    assert_eq!(steady.time_for(1, now), MS * 150);
    assert_eq!(steady.time_for(5, now), MS * 950);
    // More than are remembered.
    assert_eq!(steady.time_for(50, now), MS * 10_000);
    // Overdue.
    assert_eq!(steady.time_for(1, now + MS * 1000), MS * 200);
}

#[test]
fn places_of_one_step_are_free_at_one_moment() {
    let start = Instant::now();
    let steps = times(
        start,
        [0, 0, 0, 0, 800, 800, 800, 800, 1600, 1600, 1600, 1600],
    );
    let now = start + MS * 1700;
    for places in 1..=4 {
        assert_eq!(steps.time_for(places, now), MS * 700);
    }
    assert_eq!(steps.time_for(5, now), MS * 1500);
}

#[test]
fn idle_time_is_not_slowness_and_the_rate_before_it_counts() {
    let start = Instant::now();
    let mut vacancies = times(start, [0, 300]);
    vacancies.idle();
    let later = start + Duration::from_secs(100);
    assert_eq!(vacancies.time_for(1, later), MS * 300);
    vacancies.free(later);
    assert_eq!(vacancies.time_for(1, later + MS * 100), MS * 200);
}

#[test]
fn the_wait_is_a_hundredth_of_a_second_at_least_and_a_minute_at_most() {
    let start = Instant::now();
    assert_eq!(Vacancies::default().time_for(3, start), GUESS);
    assert_eq!(times(start, [0, 1]).time_for(1, start), SHORTEST);
    assert_eq!(times(start, [0, 10_000]).time_for(20, start), LONGEST);
}

/// Answers that take from 100 to 300 ms in steps of 10, two times as many requests as are answered,
/// and every refusal's told wait against the real one. Places of several slots are free at nearly
/// random moments. If they were entirely so, the best estimate would be off by 2.15 in the median.
#[test]
fn under_a_steady_overload_the_told_wait_is_neither_too_long_nor_too_short() {
    let mut random = StdRng::seed_from_u64(7);
    let start = Instant::now();
    let mut scheduler = Scheduler::<u32>::new(Limits {
        slots: 4,
        queue: 4,
        prefill_batch_tokens: 1000,
    });
    let mut vacancies = Vacancies::default();
    // The slot and the step at which it is free.
    let mut running: Vec<(usize, u32)> = Vec::new();
    let mut refused: Vec<(u32, Duration)> = Vec::new();
    let mut ratios: Vec<f64> = Vec::new();
    for step in 0..5000_u32 {
        let now = start + MS * 10 * step;
        running.retain(|&(slot, end)| {
            if end == step {
                scheduler.release(slot);
                vacancies.free(now);
            }
            end != step
        });
        if scheduler.room() > 0 {
            ratios.extend(refused.drain(..).map(|(at, told)| {
                let real = (MS * 10 * (step - at)).as_secs_f64();
                told.as_secs_f64() / real
            }));
        }
        if random.random_bool(0.4) && scheduler.submit([(step, 1)].into_iter()).is_err() {
            refused.push((step, vacancies.time_for(1, now)));
        }
        if let Some(plan) = scheduler.plan() {
            let end = |slot| (slot, step + random.random_range(10..=30));
            running.extend(plan.start.into_iter().map(end));
            scheduler.finish_prefill();
        }
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let mut errors: Vec<f64> = ratios
        .iter()
        .map(|ratio| ratio.max(ratio.recip()))
        .collect();
    let (ratio, error) = (median(&mut ratios), median(&mut errors));
    assert!(errors.len() > 500);
    assert!(
        (0.8..1.25).contains(&ratio) && error < 2.15,
        "{ratio}, {error}"
    );
}
