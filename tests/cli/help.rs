//! Help, and the OpenAPI document.

use std::path::Path;

use super::{assert_tells, binary, run};

#[test]
fn help_names_every_setting_with_its_default() {
    let output = run(&["serve", "--help"]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    let unwrapped = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for key in paligemma_server::settings::KEYS.iter() {
        assert_tells(&unwrapped, &[&format!("--{} ", key.flag), key.why]);
        let default = key.default.trim_matches('"');
        if !matches!(default, "" | "[]") {
            assert_tells(&unwrapped, &[&format!("{} [default: {default}]", key.why)]);
        }
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
        (
            &["--help"][..],
            &[
                "serve",
                "ask",
                "openapi",
                "completions",
                "man",
                "Exit codes:",
            ][..],
        ),
        (
            &["ask", "--help"],
            &["--image <FILE>", "[PROMPT]", "--task", "--model", "--dtype"],
        ),
        (&["annotate", "--help"], &["[PATH]...", "--keep-going"]),
        (&["health", "--help"], &["--url <URL>", "--config <FILE>"]),
        (&["openapi", "--help"], &["OpenAPI"]),
        (
            &["completions", "--help"],
            &["<SHELL>", "bash", "zsh", "fish"],
        ),
        (&["man", "--help"], &["[COMMAND]"]),
    ] {
        let output = run(arguments);
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout).unwrap();
        assert_tells(&help, words);
        assert_tells(&help, &["Examples:\n", "\n  paligemma-server "]);
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
    assert!(
        output.stdout == std::fs::read(published).unwrap(),
        "openapi.yaml is out of date"
    );
}
