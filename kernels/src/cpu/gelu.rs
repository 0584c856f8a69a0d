//! The tanh approximation of GELU (Hendrycks and Gimpel, arXiv 1606.08415), which all of PaliGemma
//! uses.
//!
//! A kernel of its own: a prefix of 260 tokens has 4 million activations a layer,
//! and candle's `gelu` calls the C library's `tanhf` for each, on one core when the gate and the up
//! projection lie side by side. See the figures in `docs/performance.md`.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// GELU of each value; any shape, f32.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&Kernel { gated: false })
}

/// `gelu(gate) · up` for f32 `[rows, 2 · width]` with the gate left and the up projection right;
/// gives `[rows, width]`.
pub(crate) fn gelu_gated(gate_up: &Tensor) -> Result<Tensor> {
    gate_up
        .contiguous()?
        .apply_op1_no_bwd(&Kernel { gated: true })
}

struct Kernel {
    gated: bool,
}

/// Values that one task works on: enough to be worth a task, few enough to stay in the cache.
const CHUNK: usize = 4096;

impl CustomOp1 for Kernel {
    fn name(&self) -> &'static str {
        "gelu-tanh"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let CpuStorage::F32(values) = storage else {
            bail!("gelu on the CPU takes f32")
        };
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("gelu takes contiguous values")
        };
        let x = &values[start..end];
        if !self.gated {
            let mut y = vec![0f32; x.len()];
            y.par_chunks_mut(CHUNK)
                .zip(x.par_chunks(CHUNK))
                .for_each(|(y, x)| vectorized(|| apply(x, y)));
            return Ok((CpuStorage::F32(y), layout.shape().clone()));
        }
        let (rows, both) = layout.shape().dims2()?;
        let width = both / 2;
        let mut y = vec![0f32; rows * width];
        y.par_chunks_mut(width)
            .zip(x.par_chunks(both))
            .for_each(|(y, x)| {
                let (gate, up) = x.split_at(width);
                let parts = y
                    .chunks_mut(CHUNK)
                    .zip(gate.chunks(CHUNK))
                    .zip(up.chunks(CHUNK));
                for ((y, gate), up) in parts {
                    vectorized(|| {
                        apply(gate, y);
                        y.iter_mut().zip(up).for_each(|(y, up)| *y *= up);
                    });
                }
            });
        Ok((CpuStorage::F32(y), Shape::from((rows, width))))
    }
}

/// Runs a loop compiled for AVX2 where the processor has it.
#[inline(always)]
fn vectorized(work: impl FnOnce()) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn with_avx2(work: impl FnOnce()) {
            work();
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the features.
            return unsafe { with_avx2(work) };
        }
    }
    work();
}

#[inline(always)]
fn apply(x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = gelu_tanh(x);
    }
}

/// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`, as `x / (1 + e^(-2u))`.
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769;
    let u = TWICE_SQRT_2_OVER_PI * x * (1.0 + 0.044715 * x * x);
    // Below -20 the result is 0 in f32; without the bound, `e^87` would not make 3e38 vanish.
    x.max(-20.0) / (1.0 + exp(-u))
}

/// `e^x` within 2 units in the last place for `x` in ±87, and the border's value beyond: range
/// reduction to `2^n · e^r` with `|r| ≤ ln 2 / 2`, and the Taylor series up to `r^7`.
///
/// Branchless, and without calls, so that a loop over it becomes vector code.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, the first short enough to be exact when multiplied by n.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 · 2^23 rounds to an integer, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let series = 1.0 / 5040.0;
    let series = series * r + 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = series * r + 1.0;
    let series = series * r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    series * power
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn exact(x: f32) -> f64 {
        let x = f64::from(x);
        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        0.5 * x * (1.0 + u.tanh())
    }

    fn values() -> Vec<f32> {
        let sweep = (-60_000..=60_000).map(|i| i as f32 / 3000.0);
        sweep
            .chain([0.0, -0.0, 1e-20, -1e-20, 1e4, -1e4, 3e38, -3e38])
            .collect()
    }

    fn assert_close(ours: f32, exact: f64, x: f32) {
        let error = (f64::from(ours) - exact).abs();
        assert!(
            error <= 1e-6 * exact.abs() + 1e-7,
            "gelu({x}) = {ours}, not {exact}"
        );
    }

    #[test]
    fn gelu_is_within_a_millionth_of_the_exact_value() {
        let x = Tensor::new(values(), &Device::Cpu).unwrap();
        let y: Vec<f32> = gelu(&x).unwrap().to_vec1().unwrap();
        for (&x, &y) in values().iter().zip(&y) {
            assert_close(y, exact(x), x);
        }
    }

    #[test]
    fn the_gate_is_on_the_left_and_multiplies_the_right() {
        let gate = [1.0f32, -2.0, 0.5, 3.0];
        let both = Tensor::new(
            &[[1.0f32, -2.0, 2.0, 3.0], [0.5, 3.0, 4.0, 5.0]],
            &Device::Cpu,
        );
        let y: Vec<f32> = gelu_gated(&both.unwrap())
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        for ((&gate, up), &y) in gate.iter().zip([2.0, 3.0, 4.0, 5.0]).zip(&y) {
            assert_close(y, exact(gate) * up, gate);
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        let x = Tensor::new(&[f32::NAN, 1.0], &Device::Cpu).unwrap();
        let y: Vec<f32> = gelu(&x).unwrap().to_vec1().unwrap();
        assert!(y[0].is_nan() && y[1].is_finite());
    }
}
