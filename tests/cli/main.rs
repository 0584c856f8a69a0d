//! The built binary from outside: messages, exit codes, signals.

mod adapter;
mod annotate;
mod annotate_formats;
mod ask;
mod batch;
mod completions;
mod connections;
mod contract;
mod decoding;
mod demo;
mod doctor;
mod formats;
mod health;
mod help;
mod keys;
mod life;
mod mistakes;
mod replicas;
mod tls;
mod traces;
mod vertex;

use std::process::{Command, Output, Stdio};

/// A small checkpoint that every build has.
const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/goldens/model/pg2-hub-f32"
);

/// The binary, without settings in its environment.
fn binary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paligemma-server"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    binary(arguments).output().unwrap()
}

/// The one line that a failure prints on stderr.
#[track_caller]
fn failure(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "more than one line: {stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    stderr
}

#[track_caller]
fn assert_tells(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}
