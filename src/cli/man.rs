//! `man`: the manual pages, made from the same text as `--help`.

use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use roff::{Roff, roman};

use paligemma_server::build_info::VERSION;

use super::exit::UsageError;
use super::{Cli, NAME};

const EXAMPLES: &str = "\
Examples:
  # Read it here.
  paligemma-server man | man -l -

  # Install the pages of the program and of a command.
  paligemma-server man > ~/.local/share/man/man1/paligemma-server.1
  paligemma-server man ask > ~/.local/share/man/man1/paligemma-server-ask.1";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The command whose page to print; without one, the program's page.
    command: Option<String>,
}

/// Prints a page in roff, the format that `man` reads.
pub fn run(args: &Args) -> anyhow::Result<()> {
    // `man` has no page for `help`, which is not a command of its own.
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let command = match &args.command {
        None => &program,
        Some(name) => program.find_subcommand(name).ok_or_else(|| {
            let names: Vec<_> = program.get_subcommands().map(Command::get_name).collect();
            UsageError(format!(
                "there is no command {name:?}; the commands are {}",
                names.join(", ")
            ))
        })?,
    };
    let mut text = Vec::new();
    write_page(command, &mut text)?;
    io::stdout().write_all(&text)?;
    Ok(())
}

fn write_page(command: &Command, page: &mut dyn Write) -> io::Result<()> {
    let source = format!("{NAME} {}", VERSION);
    let man = Man::new(command.clone()).source(source);
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    let sections = command.get_after_help().map(ToString::to_string);
    literal_sections(&sections.unwrap_or_default()).to_writer(page)
}

/// The sections of a help's end, line by line as they are written there. A line that isn't indented
/// is a heading.
fn literal_sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    for section in text.split("\n\n") {
        for line in section.lines() {
            match line.strip_suffix(':').filter(|_| !line.starts_with(' ')) {
                Some(heading) => {
                    roff.control("SH", [heading.to_uppercase().as_str()]);
                    roff.control("nf", []);
                }
                None => {
                    roff.text([roman(line.trim_start_matches("  "))]);
                }
            }
        }
        roff.control("sp", []);
    }
    roff.control("fi", []);
    roff
}
