//! The built binary from outside: its messages, its exit codes, its life as a process.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A small checkpoint that every build has.
const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/goldens/model/pg2-hub-f32"
);

/// The binary, with nothing in its environment that would set anything.
fn binary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paligemma-server"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    binary(arguments).output().unwrap()
}

/// The one line that a failure leaves on stderr.
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

#[test]
fn a_wrong_value_of_a_flag_ends_the_start_with_code_2() {
    let output = run(&["serve", "--model", MODEL, "--port", "80800"]);
    assert_tells(
        &failure(&output, 2),
        &["port", "80800", "--port", "0 to 65535"],
    );
}

#[test]
fn a_negative_number_is_a_wrong_value_and_no_flag() {
    let output = run(&["serve", "--model", MODEL, "--slots", "-1"]);
    assert_tells(
        &failure(&output, 2),
        &["slots", "-1", "--slots", "1 to 1024"],
    );
}

#[test]
fn a_wrong_value_of_a_variable_ends_the_start_with_code_2() {
    let output = binary(&["serve", "--model", MODEL])
        .env("PALIGEMMA_REQUEST_TIMEOUT", "soon")
        .output()
        .unwrap();
    let parts = [
        "request_timeout",
        "\"soon\"",
        "PALIGEMMA_REQUEST_TIMEOUT",
        "a duration",
    ];
    assert_tells(&failure(&output, 2), &parts);
}

#[test]
fn an_unknown_key_in_the_config_file_ends_the_start_with_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, "prot = 80\n").unwrap();
    let output = run(&[
        "serve",
        "--model",
        MODEL,
        "--config",
        file.to_str().unwrap(),
    ]);
    assert_tells(
        &failure(&output, 2),
        &["prot", "server.toml", "did you mean port?"],
    );
}

#[test]
fn an_unknown_flag_ends_the_start_with_code_2_and_the_closest_one() {
    let output = run(&["serve", "--prot", "80"]);
    assert_eq!(output.status.code(), Some(2));
    assert_tells(
        &String::from_utf8(output.stderr).unwrap(),
        &["--prot", "--port"],
    );
}

#[test]
fn a_start_without_a_model_says_how_to_name_one() {
    let output = run(&["serve"]);
    assert_tells(
        &failure(&output, 2),
        &["model", "--model", "PALIGEMMA_MODEL"],
    );
    let output = run(&["ask", "--image", "x.jpg", "caption en"]);
    assert_tells(
        &failure(&output, 2),
        &["model", "--model", "PALIGEMMA_MODEL"],
    );
}

#[test]
fn a_flag_beats_a_variable_that_beats_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, "model = \"./of-the-file\"\n").unwrap();
    let with = |flag: &[&str], variable: Option<&str>| {
        let mut command = binary(&["serve", "--port", "0", "--config", file.to_str().unwrap()]);
        command.args(flag);
        if let Some(model) = variable {
            command.env("PALIGEMMA_MODEL", model);
        }
        failure(&command.output().unwrap(), 1)
    };
    let (flag, variable) = (["--model", "./of-the-flag"], Some("./of-the-variable"));
    assert_tells(&with(&flag, variable), &["./of-the-flag"]);
    assert_tells(&with(&[], variable), &["./of-the-variable"]);
    assert_tells(&with(&[], None), &["./of-the-file"]);
}

#[test]
fn a_model_that_is_no_folder_and_no_hub_id_ends_the_start_with_code_1() {
    let output = run(&["serve", "--port", "0", "--model", "./nowhere"]);
    assert_tells(
        &failure(&output, 1),
        &["./nowhere", "neither a folder", "owner/name"],
    );
}

#[test]
fn a_folder_without_a_checkpoint_ends_the_start_with_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&[
        "serve",
        "--port",
        "0",
        "--model",
        folder.path().to_str().unwrap(),
    ]);
    assert_tells(&failure(&output, 1), &["config.json", "missing"]);
}

#[test]
fn a_port_in_use_ends_the_start_with_code_1_before_anything_is_loaded() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = run(&["serve", "--model", "./nowhere", "--port", &port]);
    let parts = [
        format!("127.0.0.1:{port}"),
        "in use".to_owned(),
        "--port".to_owned(),
    ];
    assert_tells(&failure(&output, 1), &parts.each_ref().map(String::as_str));
}

#[test]
fn help_names_every_setting_with_its_default() {
    let output = run(&["serve", "--help"]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for key in paligemma_server::settings::KEYS.iter() {
        assert_tells(&help, &[&format!("--{} ", key.flag), key.default]);
    }
    for heading in ["Model:", "Network:", "Engine:", "Limits:", "Logging:"] {
        assert!(
            help.lines().any(|line| line == heading),
            "no heading {heading} in: {help}"
        );
    }
}

#[test]
fn help_shows_no_value_of_the_environment() {
    let mut command = binary(&["serve", "--help"]);
    let output = command
        .env("PALIGEMMA_API_KEYS", "hunter2")
        .output()
        .unwrap();
    assert!(
        !String::from_utf8(output.stdout)
            .unwrap()
            .contains("hunter2")
    );
}

#[test]
fn each_subcommand_has_help() {
    for (arguments, words) in [
        (&["--help"][..], &["serve", "ask", "openapi"][..]),
        (
            &["ask", "--help"],
            &["--image <FILE>", "<PROMPT>", "--model", "--dtype"],
        ),
        (&["openapi", "--help"], &["OpenAPI"]),
    ] {
        let output = run(arguments);
        assert!(output.status.success());
        assert_tells(&String::from_utf8(output.stdout).unwrap(), words);
    }
}

#[test]
fn ask_hides_the_settings_of_a_server() {
    let output = run(&["ask", "--help"]);
    assert!(!String::from_utf8(output.stdout).unwrap().contains("--port"));
}

#[test]
fn openapi_prints_the_document_of_the_repository() {
    let output = run(&["openapi"]);
    assert!(output.status.success());
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.yaml");
    assert_eq!(output.stdout, std::fs::read(published).unwrap());
}
