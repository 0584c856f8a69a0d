//! Values combined in lanes, which become vector code.

use super::isa::COLUMNS;

/// Takes each value into one of 16 lanes, and then the lanes together.
#[inline(always)]
pub fn fold(
    values: &[f32],
    start: f32,
    take: impl Fn(f32, f32) -> f32,
    combine: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; COLUMNS];
    let (whole, rest) = values.as_chunks::<COLUMNS>();
    for values in whole {
        for (lane, &value) in lanes.iter_mut().zip(values) {
            *lane = take(*lane, value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = take(*lane, value);
    }
    let mut half = COLUMNS / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = combine(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}
