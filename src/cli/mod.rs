//! The command line: one file per subcommand.

mod adapter;
mod annotate;
mod ask;
mod completions;
mod detections;
mod doctor;
mod drawing;
mod exit;
mod flags;
mod health;
mod man;
mod openapi;
mod prompt_forms;
mod serve;
mod task_flags;
mod threads;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The program, as one calls it.
const NAME: &str = "paligemma-server";

const AFTER_HELP: &str = "\
Examples:
  # Serve the built-in demo, then open http://localhost:8080.
  paligemma-server serve

  # Serve a model of the Hugging Face hub to the whole network.
  paligemma-server serve --model google/paligemma2-3b-mix-224 --host 0.0.0.0

  # Ask without a server; draw what was found.
  paligemma-server ask --image street.jpg --task detect --object car --draw found.png

  # Label a folder of pictures.
  paligemma-server annotate photos --task caption --output captions.jsonl

Exit codes:
  0  it did what it was asked
  1  it failed: a file, the network, the model; health: the server is not ready
  2  an argument or a setting is wrong
  3  serve: the model failed for good; start it again
  4  annotate: some pictures have no label";

/// Serves PaliGemma and PaliGemma 2 over HTTP: captions, answers, text, boxes and masks of images.
#[derive(Parser)]
#[command(name = NAME, version, long_version = version::long(), max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a model over HTTP.
    Serve(serve::Args),
    /// Answer one prompt about one image on the terminal.
    Ask(ask::Args),
    /// Label pictures: files, folders, lists and archives of them.
    Annotate(Box<annotate::Args>),
    /// Check and measure what this machine computes with.
    Doctor(doctor::Args),
    /// Check whether a running server is ready for requests.
    Health(health::Args),
    /// Print the OpenAPI document of the HTTP API.
    #[command(after_help = openapi::EXAMPLES)]
    Openapi,
    /// Print a script that lets a shell complete commands and flags.
    Completions(completions::Args),
    /// Print the manual page of the program or of a command.
    Man(man::Args),
}

impl Cli {
    /// Runs the subcommand. On failure, prints one line on stderr and returns [`exit::code`].
    pub fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Ask(args) => ask::run(args),
            Command::Annotate(args) => annotate::run(*args),
            Command::Doctor(args) => doctor::run(&args),
            Command::Health(args) => health::run(args),
            Command::Openapi => openapi::run(),
            Command::Completions(args) => completions::run(&args),
            Command::Man(args) => man::run(&args),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::from(exit::code(&error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    /// The lines that call this program, without what a shell does before and after it.
    fn calls(text: &str) -> Vec<Vec<String>> {
        let calls = text.lines().filter_map(|line| {
            let words = shlex::split(line.trim())?;
            let start = words.iter().position(|word| word == NAME)?;
            let before = words[..start].iter();
            let words = words[start..].iter();
            let words = words.take_while(|word| !matches!(word.as_str(), ">" | "|" | "&"));
            // A variable may stand before it, prose may not.
            (before.into_iter().all(|word| word.contains('='))).then(|| words.cloned().collect())
        });
        calls.collect()
    }

    #[track_caller]
    fn assert_parses(call: Vec<String>) {
        let line = call.join(" ");
        let cli = Cli::try_parse_from(call).unwrap_or_else(|error| panic!("{line}: {error}"));
        let fits = match cli.command {
            Command::Ask(args) => args.question().map(drop),
            Command::Annotate(args) => args.work().map(drop),
            _ => Ok(()),
        };
        assert!(fits.is_ok(), "{line}: {fits:?}");
    }

    #[test]
    fn every_help_has_examples_that_parse() {
        let program = Cli::command();
        for command in program.get_subcommands().chain([&program]) {
            let help = command.get_after_help().map(ToString::to_string);
            let calls = calls(&help.unwrap_or_default());
            let name = command.get_name();
            assert!(!calls.is_empty(), "{name} has no example");
            for call in calls {
                assert!(name == NAME || call[1] == name, "{name}: {call:?}");
                assert_parses(call);
            }
        }
    }

    #[test]
    fn the_calls_in_the_documentation_parse() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for page in ["command-line.md", "annotate.md"] {
            let text = std::fs::read_to_string(root.join("docs").join(page)).unwrap();
            let blocks = text.split("```sh\n").skip(1);
            let code = blocks.filter_map(|rest| rest.split("```").next());
            let calls: Vec<_> = code.flat_map(calls).collect();
            assert!(!calls.is_empty(), "{page}");
            for call in calls {
                assert_parses(call);
            }
        }
    }
}
