//! Products with weights of 8 bits, against the same numbers in f32.

use candle_core::{DType, Device, Result, Tensor};

use super::super::launch::{Gpu, with_multiprocessors};
use super::super::quantized::{Tiles, split};
use super::{noise, wide};
use crate::cpu::quantize_q8;
use crate::{Epilogue, Norm, portable};

const BLOCK: usize = 32;

/// The numbers that `rows` become in 8 bits.
fn rounded(rows: &Tensor, of_block: impl Fn(&[f32]) -> Vec<f32>) -> Result<Tensor> {
    let rows: Vec<Vec<f32>> = rows.to_vec2()?;
    let shape = (rows.len(), rows[0].len());
    let values = rows
        .iter()
        .flat_map(|row| row.chunks(BLOCK))
        .flat_map(of_block);
    Tensor::from_vec(values.collect::<Vec<_>>(), shape, &Device::Cpu)
}

fn as_weights(block: &[f32]) -> Vec<f32> {
    let (scale, values) = quantize_q8(block);
    let number = |&value: &u8| f32::from(scale) * (f32::from(value) - 128.0);
    values[..block.len()].iter().map(number).collect()
}

fn as_activations(block: &[f32]) -> Vec<f32> {
    let largest = block.iter().fold(0f32, |most, x| most.max(x.abs()));
    let number = |x: &f32| (x * (127.0 / largest)).round_ties_even() * (largest / 127.0);
    block.iter().map(number).collect()
}

#[track_caller]
fn assert_close(what: &str, ours: &Tensor, right: &Tensor, allowed: f32) {
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>();
    assert_eq!(ours.dims(), right.dims(), "{what}");
    let error = norm(&(ours - right).unwrap()).unwrap() / norm(right).unwrap();
    assert!(error < allowed, "{what}: off by {error}");
}

fn tiles(weight: &Tensor, gated: bool) -> Result<Tiles> {
    let rows: Vec<Vec<f32>> = weight.to_vec2()?;
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    Tiles::new(&rows, gated, &Device::Cpu)
}

#[test]
fn products_of_few_and_many_rows() -> Result<()> {
    // Neither whole tiles nor whole blocks, and enough of both that warps share a tile.
    for (rows, width, out) in [
        (1, 64, 16),
        (1, 520, 33),
        (1, 1090, 5),
        (2, 520, 33),
        (20, 72, 40),
        (40, 1090, 20),
        (70, 96, 16),
        (140, 72, 20),
        (2, 5000, 16),
    ] {
        for gated in [false, true] {
            let weight = noise(&[if gated { 2 * out } else { out }, width], 2, DType::F32);
            let packed = tiles(&weight, gated)?;
            let weight = rounded(&weight, as_weights)?;
            let x = noise(&[rows, width], 1, DType::F32);
            let scale = noise(&[width], 3, DType::F32);
            let (bias, add) = (
                noise(&[out], 4, DType::F32),
                noise(&[rows, out], 5, DType::F32),
            );
            let norm = Some(Norm {
                scale: &scale,
                eps: 1e-6,
            });
            let epilogue = match gated {
                true => Epilogue::default(),
                false => Epilogue {
                    bias: Some(&bias),
                    gelu: true,
                    residual: Some(&add),
                    ..Epilogue::default()
                },
            };
            let normed = candle_nn::ops::rms_norm(&x, &scale, 1e-6)?;
            for (norm, own) in [(None, &x), (norm, &normed)] {
                // The ways to multiply: an unpacked weight for the first rows, quantised rows.
                for many in [0, rows / 2, rows] {
                    let last = own.narrow(0, many, rows - many)?;
                    let own = match many == rows {
                        true => own.clone(),
                        false => Tensor::cat(
                            &[&own.narrow(0, 0, many)?, &rounded(&last, as_activations)?],
                            0,
                        )?,
                    };
                    let allowed = if many > 0 { 1e-2 } else { 1e-3 };
                    let y = own.matmul(&weight.t()?)?;
                    let right = match gated {
                        true => portable::gelu_gated(&y)?,
                        false => y.broadcast_add(&bias)?.gelu()?.add(&add)?,
                    };
                    let ours = packed.product(&x, norm, many, epilogue)?;
                    let what = format!(
                        "{rows} rows, {many} many, {width} to {out}, gated {gated}, norm {}",
                        norm.is_some()
                    );
                    assert_close(&what, &ours, &right, allowed);
                }
            }
        }
    }
    Ok(())
}

/// One warp for a tile, or several that share it: which is up to the card.
#[test]
fn warps_share_a_tile() -> Result<()> {
    // 17 tiles, so that the last block has less than its warps could do.
    let (width, out) = (1090, 270);
    for (multiprocessors, warps) in [(1, 1), (2, 2), (4, 4), (8, 8), (132, 8)] {
        for gated in [false, true] {
            let weight = noise(&[if gated { 2 * out } else { out }, width], 2, DType::F32);
            let packed = tiles(&weight, gated)?;
            let weight = rounded(&weight, as_weights)?;
            for rows in [1, 20, 40] {
                let x = noise(&[rows, width], 1, DType::F32);
                let ours = with_multiprocessors(multiprocessors, || {
                    assert_eq!(split(&Gpu, 17)?, warps);
                    packed.product(&x, None, 0, Epilogue::default())
                })?;
                let y = rounded(&x, as_activations)?.matmul(&weight.t()?)?;
                let right = match gated {
                    true => portable::gelu_gated(&y)?,
                    false => y,
                };
                let what = format!("{rows} rows, {warps} warps, gated {gated}");
                assert_close(&what, &ours, &right, 1e-3);
            }
        }
    }
    Ok(())
}

/// A value that is not finite makes its row no number, and no other row.
#[test]
fn what_is_not_finite_shows() -> Result<()> {
    const WIDTH: usize = 96;
    let packed = tiles(&noise(&[20, WIDTH], 1, DType::F32), false)?;
    let scale = noise(&[WIDTH], 3, DType::F32);
    let norm = Some(Norm {
        scale: &scale,
        eps: 1e-6,
    });
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut rows: Vec<Vec<f32>> = noise(&[3, WIDTH], 2, DType::F32).to_vec2()?;
        rows[1][40] = wrong;
        let x = Tensor::new(rows, &Device::Cpu)?;
        for (norm, many) in [(None, 0), (norm, 0), (None, 3), (norm, 3)] {
            let y = packed.product(&x, norm, many, Epilogue::default())?;
            let finite: Vec<bool> = y
                .to_vec2::<f32>()?
                .iter()
                .map(|row| row.iter().all(|y| y.is_finite()))
                .collect();
            assert_eq!(finite, [true, false, true], "{wrong}, {many} many");
        }
    }
    Ok(())
}

/// A row gives the same bits alone and with any others.
#[test]
fn a_row_does_not_depend_on_its_company() -> Result<()> {
    let packed = tiles(&noise(&[40, 200], 1, DType::F32), true)?;
    let x = noise(&[70, 200], 2, DType::F32);
    let product = |x: &Tensor| {
        packed
            .product(x, None, 0, Epilogue::default())?
            .to_vec2::<f32>()
    };
    let together = product(&x)?;
    for row in [0, 15, 16, 69] {
        assert_eq!(
            product(&x.narrow(0, row, 1)?)?[0],
            together[row],
            "row {row}"
        );
    }
    Ok(())
}

#[test]
fn rows_come_back() -> Result<()> {
    let weight = noise(&[37, 72], 1, DType::F32);
    let ids = Tensor::new(&[0u32, 8, 17, 36], &Device::Cpu)?;
    let right = rounded(&weight, as_weights)?.index_select(&ids, 0)?;
    let ours = tiles(&weight, false)?.rows(&ids)?;
    assert_eq!(
        ours.to_vec2::<f32>()?,
        wide(&right).to_vec2::<f32>()?,
        "rows are exact"
    );
    Ok(())
}
