//! The command line: one file per subcommand.

mod annotate;
mod ask;
mod detections;
mod flags;
mod health;
mod openapi;
mod serve;
mod threads;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use paligemma_server::runtime::RuntimeError;
use paligemma_server::server::ServerError;
use paligemma_server::settings::SettingsError;

/// Serves PaliGemma and PaliGemma 2 over HTTP: captions, answers, text, boxes and masks of images.
#[derive(Parser)]
#[command(version, long_version = version::long(), max_term_width = 100)]
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
    /// Label the pictures in a folder.
    Annotate(annotate::Args),
    /// Check whether a running server is ready for requests.
    Health(health::Args),
    /// Print the OpenAPI document of the HTTP API.
    Openapi,
}

impl Cli {
    /// Runs the subcommand. On failure, prints one line on stderr and returns [`exit_code`].
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
                ExitCode::from(exit_code(&error))
            }
        }
    }
}

/// 2 for wrong settings, like the flags that clap refuses; 3 when the model failed for good while
/// serving, so that the process's supervisor can restart it; otherwise 1.
fn exit_code(error: &anyhow::Error) -> u8 {
    let runtime = error.downcast_ref::<RuntimeError>();
    let server = error.downcast_ref::<ServerError>();
    if error.is::<SettingsError>() || runtime.is_some_and(RuntimeError::is_of_settings) {
        2
    } else if matches!(server, Some(ServerError::Model(_))) {
        3
    } else {
        1
    }
}
