//! `doctor`: what this machine is, whether it computes rightly, and how fast.

mod checks;
mod kernels;
mod machine;
mod random_model;
mod report;
mod speed;

use paligemma_server::kernels::{
    DeviceChoice, FormatChoice, GraphChoice, InstructionsChoice, Placement, choose_instructions,
};

use self::random_model::Shape;
use self::report::Report;

const EXAMPLES: &str = "\
Examples:
  # All of it: what is there, whether it computes rightly, how fast. Needs no model.
  paligemma-server doctor

  # The same for a program, without the figures of speed.
  paligemma-server doctor --only-checks --json";

#[derive(clap::Args)]
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

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Some check failed.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {all} checks failed: {names}")]
struct Unwell {
    failed: usize,
    all: usize,
    names: String,
}

/// Checks, measures, and prints a report; fails if a check does.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let placement = Placement::resolve(args.device, args.dtype)?;
    let instructions = choose_instructions(&placement, args.cpu_instructions)?;
    let mut report = Report::new(args.json);
    machine::describe(&mut report, placement, instructions)?;
    let device = placement.open_device(args.cuda_graphs)?;
    checks::run(&mut report, &device, placement.format, args.cuda_graphs)?;
    if !args.only_checks {
        let (format, graphs) = (placement.format, args.cuda_graphs);
        speed::measure(&mut report, &device, format, graphs, args.shape)?;
    }
    report.finish()?;
    let failed = report.failed();
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Unwell {
            failed: failed.len(),
            all: report.checks.len(),
            names: failed.join(", "),
        }
        .into()),
    }
}
