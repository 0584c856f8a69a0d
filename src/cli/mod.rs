//! The command line: one file a subcommand.

mod annotate;
mod ask;
mod flags;
mod health;
mod located;
mod model;
mod openapi;
mod serve;
mod threads;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use paligemma_server::checkpoint::PlacementError;
use paligemma_server::settings::SettingsError;

/// Serves PaliGemma and PaliGemma 2 over HTTP: captions and answers about images.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
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
    /// Label the pictures of a folder.
    Annotate(annotate::Args),
    /// Ask a running server whether it takes requests.
    Health(health::Args),
    /// Print the OpenAPI document of the HTTP interface.
    Openapi,
}

impl Cli {
    /// Runs the subcommand. A failure is one line on stderr; the exit code is 2 when the settings
    /// are wrong, as it is for flags that clap refuses, and otherwise 1.
    pub fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Ask(args) => ask::run(args),
            Command::Annotate(args) => annotate::run(args),
            Command::Health(args) => health::run(args),
            Command::Openapi => openapi::run(),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                let settings = error.is::<SettingsError>() || error.is::<PlacementError>();
                ExitCode::from(if settings { 2 } else { 1 })
            }
        }
    }
}
