//! What is there: the processor, the card, the driver.

use std::fs;

use bytesize::ByteSize;
use paligemma_server::build_info::VERSION;
use paligemma_server::kernels::{Instructions, Placement, WeightFormat, card, reason};

use super::report::Report;

/// Notes all that is known of the machine.
pub fn describe(report: &Report, placement: Placement, instructions: Option<Instructions>) {
    report.fact("version", VERSION);
    report.fact("runs on", placement.to_string());
    report.fact("processor", processor());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    report.fact("cores", cores.to_string());
    if let Some(instructions) = instructions {
        report.fact("kernels", format!("our own, {instructions}"));
    }
    let Some(gpu) = placement.gpu else { return };
    let card = match card(gpu) {
        Ok(card) => card,
        Err(error) => return report.fails("the card", reason(&error)),
    };
    report.fact("card", card.name);
    report.fact("driver speaks CUDA", card.driver);
    report.fact(
        "compute capability",
        format!(
            "{}; this binary was built for {}",
            card.capability, card.needs
        ),
    );
    let free = ByteSize(card.free_bytes as u64);
    let all = ByteSize(card.bytes as u64);
    report.fact("free memory of the card", format!("{free} of {all}"));
    report.fact(
        "kernels",
        match placement.format {
            WeightFormat::F32 | WeightFormat::Bf16 => "our own, as PTX; cuBLAS multiplies",
            WeightFormat::Q8_0 => {
                "our own, as PTX, also for products; of many rows, cuBLAS multiplies"
            }
            WeightFormat::Q4K => "our own, as PTX; candle's multiply",
        },
    );
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find(|line| line.starts_with("model name"));
    let name = name.and_then(|line| line.split_once(": "));
    name.map_or(std::env::consts::ARCH, |(_, name)| name)
        .to_owned()
}
