//! `doctor`: what this machine is, whether it computes rightly, and how fast.

mod answers;
mod checks;
mod kernels;
mod layers;
mod machine;
mod random_model;
mod report;
mod speed;

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use humantime_serde::re::humantime;
use paligemma_server::kernels::{
    DeviceChoice, FormatChoice, GraphChoice, InstructionsChoice, Placement, PlacementError,
    choose_instructions, is_out_of_memory, reason,
};

use self::random_model::Shape;
use self::report::Report;

const EXAMPLES: &str = "\
Examples:
  # All of it: what is there, whether it computes rightly, how fast. Needs no model.
  paligemma-server doctor

  # The same for a program, without the figures of speed.
  paligemma-server doctor --only-checks --json";

#[derive(Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,

    /// The weights' format: auto, f32, bf16, q8_0 or q4k
    #[arg(long, default_value = "auto")]
    dtype: FormatChoice,

    /// As the setting of the same name
    #[arg(long, default_value = "auto")]
    cpu_instructions: InstructionsChoice,

    /// As the setting of the same name
    #[arg(long, default_value = "off")]
    cuda_graphs: GraphChoice,

    /// The model whose speed is measured, with random weights
    #[arg(long, value_enum, default_value_t = Shape::PaliGemma)]
    shape: Shape,

    /// Leave out the figures of speed, which take a model's memory
    #[arg(long)]
    only_checks: bool,

    /// Give up after this long, and report what was found
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = humantime::parse_duration)]
    time_limit: Duration,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Checks, measures, and prints a report; fails if a check does.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let report = Arc::new(Report::new(args.json));
    let (finished, end) = mpsc::channel();
    // On a thread that can be left behind: a device that hangs never answers.
    let examiner = {
        let (report, args) = (Arc::clone(&report), args.clone());
        move || finished.send(examine(&report, &args))
    };
    std::thread::Builder::new()
        .name("doctor".to_owned())
        .spawn(examiner)?;
    match end.recv_timeout(args.time_limit) {
        Ok(examined) => examined?,
        Err(RecvTimeoutError::Timeout) => {
            let limit = humantime::format_duration(args.time_limit);
            report.fails(
                "finished in time",
                format!(
                    "not within {limit}: the device hangs, or is slow (--only-checks, --time-limit)"
                ),
            );
        }
        Err(RecvTimeoutError::Disconnected) => {
            report.fails("finished", "the doctor panicked; please report it");
        }
    }
    report.finish()
}

/// Finds out all that goes into the report.
///
/// # Errors
/// When the arguments ask for what is not here.
fn examine(report: &Report, args: &Args) -> anyhow::Result<()> {
    report.heading("What is here");
    let Some(placement) = place(report, args)? else {
        return Ok(());
    };
    let instructions = choose_instructions(&placement, args.cpu_instructions)?;
    machine::describe(report, placement, instructions);
    let device = match placement.open_device(args.cuda_graphs) {
        Ok(device) => device,
        Err(error) => {
            report.fails("the GPU", error.to_string());
            return Ok(());
        }
    };
    let (format, graphs) = (placement.format, args.cuda_graphs);
    checks::run(report, &device, format, graphs);
    if !args.only_checks {
        report.heading("How fast it is, with random weights");
        let measured = speed::measure(report, &device, format, graphs, args.shape);
        match measured.map_err(|error| reason(&error)) {
            Ok(()) => {}
            Err(error) if is_out_of_memory(&error) => {
                report.left_out("the rest", "the memory is full")
            }
            Err(error) => report.fails("measuring all of it", error),
        }
    }
    Ok(())
}

/// Where to compute. A GPU that does not work is a finding, and then the processor is looked at, unless a GPU was
/// asked for.
///
/// # Errors
/// When this binary knows no GPU and one is asked for, or the format can't be computed.
fn place(report: &Report, args: &Args) -> Result<Option<Placement>, PlacementError> {
    let nobody_asked = args.device == DeviceChoice::Auto;
    let device = match args.device {
        DeviceChoice::Auto => DeviceChoice::Cuda(0),
        asked => asked,
    };
    let processor = |format| Placement::resolve(DeviceChoice::Cpu, format).map(Some);
    match Placement::resolve(device, args.dtype) {
        Err(PlacementError::WithoutCuda(_)) if nobody_asked => processor(args.dtype),
        Err(
            error @ (PlacementError::NoDriver(_)
            | PlacementError::OldDriver { .. }
            | PlacementError::UnfitGpu { .. }
            | PlacementError::NoGpu { .. }),
        ) => {
            report.fails("the GPU", error.to_string());
            match nobody_asked {
                true => processor(FormatChoice::Auto),
                false => Ok(None),
            }
        }
        placed => placed.map(Some),
    }
}
