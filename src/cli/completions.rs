//! `completions`: what a shell needs to complete this program's commands and flags.

use std::io::Write;
use std::string::FromUtf8Error;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::{Cli, NAME};

const EXAMPLES: &str = "\
Examples:
  # For the user who calls it; a new shell completes.
  paligemma-server completions bash > ~/.local/share/bash-completion/completions/paligemma-server
  paligemma-server completions fish > ~/.config/fish/completions/paligemma-server.fish

  # For zsh, in a folder that $fpath names.
  paligemma-server completions zsh > ~/.zfunc/_paligemma-server";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the shell's script.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let script = match args.shell {
        Shell::Bash => for_bash()?,
        shell => script(shell, NAME)?,
    };
    std::io::stdout().write_all(script.as_bytes())?;
    Ok(())
}

fn script(shell: Shell, name: &str) -> Result<String, FromUtf8Error> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), name, &mut script);
    String::from_utf8(script)
}

/// clap_complete's script for bash completes nothing after a subcommand if the program's name has a
/// hyphen (<https://github.com/clap-rs/clap/issues/6421>). So the script is made for another name, and
/// its last lines, which say for which program it is, get the right one.
fn for_bash() -> Result<String, FromUtf8Error> {
    let other = NAME.replace('-', "_");
    let script = script(Shell::Bash, &other)?;
    Ok(script.replace(&format!("default {other}\n"), &format!("default {NAME}\n")))
}
