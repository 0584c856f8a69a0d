//! The command line: one file per subcommand.

mod annotate;
mod ask;
mod flags;
mod health;
mod located;
mod openapi;
mod serve;
mod threads;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use paligemma_server::runtime::RuntimeError;
use paligemma_server::server::ServerError;
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
    /// Runs the subcommand. A failure is one line on stderr; [`exit_code`] says with which code.
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

/// 2 when the settings are wrong, as for flags that clap refuses; 3 when a model that served has
/// failed, so that whoever supervises the process knows to start it again; otherwise 1.
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
