//! Whether everything comes out as it should.

use candle_core::{DType, Device, Result, Tensor};
use paligemma_server::kernels::{GraphChoice, reason};
use paligemma_server::models::WeightFormat;
use paligemma_server::models::config::TextConfig;

use super::random_model::Shape;
use super::report::Report;
use super::{answers, layers};

/// Tensors by what they are.
pub type Named = Vec<(&'static str, Tensor)>;

/// Compares layers in f32 and in `format` on `device` with f32 on the processor, and answers with recorded ones.
pub fn run(report: &Report, device: &Device, format: WeightFormat, graphs: GraphChoice) {
    report.heading("Whether it computes rightly: layers as in f32 on the processor");
    let mut formats = vec![WeightFormat::F32];
    if format != WeightFormat::F32 {
        formats.push(format);
    }
    // Whose kernels are ours on every card.
    if device.is_cuda() && format != WeightFormat::Q8_0 {
        formats.push(WeightFormat::Q8_0);
    }
    // Nothing is learned from comparing the processor with itself.
    let others = |format: &WeightFormat| device.is_cuda() || *format != WeightFormat::F32;
    let compared: Vec<_> = formats.iter().copied().filter(others).collect();
    compare_layers(report, device, &compared);
    for &format in &formats {
        let alone = layers::alone_and_together(device, format);
        if let Some(alone) = alone.transpose() {
            let name = format!("a product's rows in {format}, together and alone");
            note(report, name, alone, 0.0);
        }
    }
    note(
        report,
        "the likeliest tokens of 257,153",
        answers::likeliest_tokens(device),
        0.0,
    );
    report.heading("Whether it computes rightly: the demo's answers as transformers gives them");
    for &format in &formats {
        if let Err(error) = answers::check(report, device, format, graphs) {
            report.fails(format!("the demo's answers in {format}"), error.to_string());
        }
    }
}

fn compare_layers(report: &Report, device: &Device, formats: &[WeightFormat]) {
    let compare = |name: &str, compute: &dyn Fn(&Device, WeightFormat) -> Result<Named>| {
        compare(report, name, device, formats, compute);
    };
    for (name, shape) in [("Gemma", Shape::PaliGemma), ("Gemma 2", Shape::PaliGemma2)] {
        let name = format!("{name}'s layer");
        let config = TextConfig {
            // Shorter than the texts.
            windows: vec![shape.config().text.windows[0].map(|_| 200)],
            ..shape.config().text
        };
        compare(&name, &|device, format| {
            layers::decoder_layer(&config, device, format)
        });
        compare(&name, &|device, format| {
            layers::many_rows(&config, device, format)
        });
    }
    compare("SigLIP's layer", &layers::encoder_layer);
    compare("adapters", &layers::adapted_product);
}

/// Compares what `compute` gives on `device` in each format with what it gives on the processor in f32.
fn compare(
    report: &Report,
    name: &str,
    device: &Device,
    formats: &[WeightFormat],
    compute: &dyn Fn(&Device, WeightFormat) -> Result<Named>,
) {
    let right = match compute(&Device::Cpu, WeightFormat::F32) {
        Ok(right) => right,
        Err(error) => return report.fails(format!("{name} on the processor"), reason(&error)),
    };
    for &format in formats {
        let name = format!("{name} in {format}");
        match compute(device, format) {
            Ok(here) => {
                for ((what, here), (_, right)) in here.iter().zip(&right) {
                    let name = format!("{name}, {what}");
                    note(report, name, distance(here, right), tolerance(format));
                }
            }
            Err(error) => report.fails(name, reason(&error)),
        }
    }
}

/// Notes how far something is off, or why that is not known.
fn note(report: &Report, name: impl Into<String>, error: Result<f64>, allowed: f64) {
    match error {
        Ok(error) => report.distance(name, error, allowed),
        Err(error) => report.fails(name, reason(&error)),
    }
}

/// How far a layer may be off, relative to its output.
fn tolerance(format: WeightFormat) -> f64 {
    match format {
        WeightFormat::F32 => 1e-4,
        WeightFormat::Bf16 | WeightFormat::Q8_0 => 3e-2,
        WeightFormat::Q4K => 2e-1,
    }
}

/// `‖here - right‖ / ‖right‖`.
fn distance(here: &Tensor, right: &Tensor) -> Result<f64> {
    let square = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f32>();
    let difference = square(&(here - right)?)?;
    Ok(f64::from(difference / square(right)?).sqrt())
}

/// To f32 in the processor's memory.
pub fn on_cpu(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)?.to_device(&Device::Cpu)
}
