//! How long each kernel takes at real shapes, one call after the other.

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use paligemma_server::kernels::{
    CachedRows, Epilogue, Matmul, Outputs, RowPlaces, Scoring, WeightFormat, attend_images,
    attend_rows, likeliest, rms_norm,
};

use super::random_model::{VOCAB, noise};
use super::report::Report;

/// Calls that are timed together.
const CALLS: usize = 40;

/// So many bytes of weights are multiplied in turn that no cache holds them.
const MORE_THAN_CACHES: usize = 300 << 20;

/// Keys that a row sees, and the slots' size.
const KEYS: usize = 280;
const CONTEXT: usize = 768;

/// Measures the kernels of a GPU, in microseconds a call; `seconds_per_byte` is what memory takes.
pub fn measure(
    report: &Report,
    device: &Device,
    format: WeightFormat,
    seconds_per_byte: f64,
) -> Result<()> {
    let dtype = format.activation_dtype();
    let input = |rows: usize, width: usize| {
        noise(rows * width, 3, device)?
            .to_dtype(dtype)?
            .reshape((rows, width))
    };
    let small = input(1, 2048)?;
    let scale = noise(2048, 4, device)?;
    let times = time(device, |_| rms_norm(&small, &scale, 1e-6))?;
    report.time("a norm of one row", times, "us", None);

    for (what, out, width, outputs) in [
        ("queries, keys and values", 2560, 2048, Outputs::SideBySide),
        ("heads' outputs", 2048, 2048, Outputs::SideBySide),
        ("gate and up", 32768, 2048, Outputs::Gated),
        ("down", 2048, 16384, Outputs::SideBySide),
    ] {
        let bytes = (out * width) as f64 * format.bytes_per_weight();
        let count = (MORE_THAN_CACHES as f64 / bytes).ceil() as usize;
        let weights = (0..count)
            .map(|seed| {
                let weight = noise(out * width, seed, &format.read_device(device))?
                    .to_dtype(format.read_dtype())?
                    .reshape((out, width))?;
                Matmul::new(vec![weight], outputs, format, device)
            })
            .collect::<Result<Vec<_>>>()?;
        for rows in [1, 4, 8, 64] {
            let x = input(rows, width)?;
            let times = time(device, |call| {
                weights[call % count].forward(&x, None, 0, Epilogue::default())
            })?;
            let limit = Some(bytes * seconds_per_byte * 1e6);
            report.time(format!("{what}, {rows} rows"), times, "us", limit);
        }
    }

    let scoring = Scoring {
        scale: 1.0 / 16.0,
        softcap: None,
    };
    for rows in [1usize, 8, 64] {
        let places: Vec<(u32, u32)> = (0..rows as u32)
            .map(|slot| (slot, KEYS as u32 - 1))
            .collect();
        let Some(places) = RowPlaces::new(&places, 1, device)? else {
            break;
        };
        let cache = Tensor::zeros((rows, 1, CONTEXT, 256), dtype, device)?;
        let (qkv, angles) = (input(rows, 2560)?, input(rows, 128)?);
        let attended = CachedRows {
            places: &places,
            prefixes: Vec::new(),
            decode: rows,
            last_only: false,
            window: None,
        };
        let times = time(device, |_| {
            attend_rows(
                &qkv,
                (&angles, &angles),
                (&cache, &cache),
                &attended,
                scoring,
            )
        })?;
        report.time(
            format!("attention of {rows} rows that decode"),
            times,
            "us",
            None,
        );
    }
    for images in [1, 8] {
        let qkv = input(images * 256, 3 * 1152)?;
        let times = time(device, |_| attend_images(&qkv, 256, 16, scoring))?;
        report.time(
            format!("attention within {images} images"),
            times,
            "us",
            None,
        );
    }
    let logits = noise(VOCAB, 5, device)?.reshape((1, VOCAB))?;
    let mut times = Vec::new();
    for _ in 0..CALLS {
        let began = Instant::now();
        likeliest(&logits, &[None])?;
        times.push(1e6 * began.elapsed().as_secs_f64());
    }
    report.time("choosing a token, brought back", times, "us", None);
    let one = Tensor::zeros(1, DType::F32, device)?;
    let times = time(device, |_| one.affine(1.0, 1.0))?;
    report.time("a launch of next to nothing", times, "us", None);
    Ok(())
}

/// Microseconds a call, of several rounds.
fn time(device: &Device, mut call: impl FnMut(usize) -> Result<Tensor>) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for round in 0..6 {
        device.synchronize()?;
        let began = Instant::now();
        for index in 0..CALLS {
            call(index)?;
        }
        device.synchronize()?;
        if round > 0 {
            times.push(1e6 * began.elapsed().as_secs_f64() / CALLS as f64);
        }
    }
    Ok(times)
}
