//! The kernels, emulated, against plain formulas in f32.

mod attention;
mod low_rank;
mod many_keys;
mod quantized;
mod token;

use candle_core::{DType, Device, Result, Tensor};

use super::product::ENOUGH_OUTPUTS;
use super::{finish, layer_norm, product, rms_norm};
use crate::{Epilogue, Norm, portable};

const DTYPES: [DType; 2] = [DType::F32, DType::BF16];

/// Values that bf16 has, between -1 and 1; others for another seed.
fn noise(shape: &[usize], seed: usize, dtype: DType) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| {
        let bits = ((i + 1) * (2 * seed + 1)) as u64;
        let bits = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let bits = bits.wrapping_mul(0xd6e8_feb8_6659_fd93);
        (bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..count).map(value).collect();
    let rounded = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    rounded
        .to_dtype(DType::BF16)
        .unwrap()
        .to_dtype(dtype)
        .unwrap()
}

fn wide(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F32).unwrap()
}

#[track_caller]
fn assert_close(what: &str, ours: &Tensor, right: &Tensor) {
    let square = |x: Tensor| {
        x.sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap()
    };
    let dtype = ours.dtype();
    let (ours, right) = (wide(ours), wide(right));
    assert_eq!(ours.dims(), right.dims(), "{what}");
    let error = (square((&ours - &right).unwrap()) / square(right)).sqrt();
    let allowed = if dtype == DType::F32 { 1e-5 } else { 1e-2 };
    assert!(error < allowed, "{what}, {dtype:?}: off by {error}");
}

#[test]
fn norms() -> Result<()> {
    for dtype in DTYPES {
        for width in [16, 66, 72, 2304] {
            let (x, add) = (noise(&[3, width], 1, dtype), noise(&[3, width], 2, dtype));
            let (scale, bias) = (
                noise(&[width], 3, DType::F32),
                noise(&[width], 4, DType::F32),
            );
            let right = candle_nn::ops::rms_norm(&wide(&x), &scale, 1e-6)?;
            assert_close("rms", &rms_norm(&x, &scale, None, 1e-6)?, &right);
            let ours = rms_norm(&x, &scale, Some(&add), 1e-6)?;
            assert_close("rms added", &ours, &(wide(&add) + right)?);
            let right = candle_nn::ops::layer_norm(&wide(&x), &scale, &bias, 1e-6)?;
            assert_close("layer", &layer_norm(&x, &scale, &bias, 1e-6)?, &right);
        }
    }
    Ok(())
}

#[test]
fn products() -> Result<()> {
    for dtype in DTYPES {
        for (rows, width, out) in [(1, 64, 10), (1, 520, 33), (1, 66, 10), (3, 64, 10)] {
            for gated in [false, true] {
                let x = noise(&[rows, width], 1, dtype);
                let weight = noise(&[if gated { 2 * out } else { out }, width], 2, dtype);
                let scale = noise(&[width], 3, DType::F32);
                let (bias, add) = (noise(&[out], 4, dtype), noise(&[rows, out], 5, dtype));
                let norm = Some(Norm {
                    scale: &scale,
                    eps: 1e-6,
                });
                let epilogue = Epilogue {
                    bias: Some(&bias),
                    gelu: true,
                    residual: Some(&add),
                    ..Epilogue::default()
                };
                let normed = candle_nn::ops::rms_norm(&wide(&x), &scale, 1e-6)?;
                for (norm, x) in [(norm, &normed), (None, &wide(&x))] {
                    let y = x.matmul(&wide(&weight).t()?)?;
                    let what = format!("{rows} rows, {width} to {out}, gated {gated}");
                    let x = noise(&[rows, width], 1, dtype);
                    if gated {
                        let right = portable::gelu_gated(&y)?;
                        let ours = product(&x, norm, &weight, true, Epilogue::default())?;
                        assert_close(&what, &ours, &right);
                    } else {
                        let ours = product(&x, norm, &weight, false, Epilogue::default())?;
                        assert_close(&what, &ours, &y);
                        let right = y.broadcast_add(&wide(&bias))?.gelu()?.add(&wide(&add))?;
                        let ours = product(&x, norm, &weight, false, epilogue)?;
                        assert_close(&what, &ours, &right);
                    }
                }
            }
        }
        let y = noise(&[5, 18], 6, dtype);
        let ours = finish(&y, true, Epilogue::default())?;
        assert_close("gated", &ours, &portable::gelu_gated(&wide(&y))?);
    }
    Ok(())
}

/// With so many outputs every warp has one of its own.
#[test]
fn one_row_and_many_outputs() -> Result<()> {
    let (width, out) = (264, ENOUGH_OUTPUTS + 3);
    for (dtype, gated) in [(DType::F32, false), (DType::BF16, true)] {
        let x = noise(&[1, width], 1, dtype);
        let weight = noise(&[if gated { 2 * out } else { out }, width], 2, dtype);
        let scale = noise(&[width], 3, DType::F32);
        let norm = Norm {
            scale: &scale,
            eps: 1e-6,
        };
        let y = candle_nn::ops::rms_norm(&wide(&x), &scale, 1e-6)?.matmul(&wide(&weight).t()?)?;
        let right = match gated {
            true => portable::gelu_gated(&y)?,
            false => y,
        };
        let ours = product(&x, Some(norm), &weight, gated, Epilogue::default())?;
        assert_close(&format!("gated {gated}"), &ours, &right);
    }
    Ok(())
}
