//! Completions and manual pages.

use std::path::Path;
use std::process::Command;

use super::{assert_tells, failure, run};

const COMMANDS: [&str; 7] = [
    "serve",
    "ask",
    "annotate",
    "health",
    "openapi",
    "completions",
    "man",
];

#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_shell_gets_a_script_with_all_commands_and_flags() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(&["completions", shell]);
        let words = [
            "paligemma-server",
            "serve",
            "annotate",
            "keep-going",
            "slots",
            "segment",
        ];
        assert_tells(&script, &words);
    }
    let output = run(&["completions", "csh"]);
    assert_eq!(output.status.code(), Some(2));
    assert_tells(&String::from_utf8(output.stderr).unwrap(), &["csh", "bash"]);
}

#[test]
fn bash_completes_commands_flags_and_tasks() {
    let script = printed(&["completions", "bash"]);
    // As bash calls the function that the script registers.
    let complete = r#"
        function_of() { complete -p "$1" | sed 's/.*-F \([^ ]*\).*/\1/'; }
        try() {
            COMP_WORDS=(paligemma-server "$@")
            COMP_CWORD=$#
            local last=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
            "$(function_of paligemma-server)" paligemma-server "$last" "$before"
            echo "${COMPREPLY[@]}"
        }
        try ann
        try ask --ta
        try ask --task se
        try annotate --keep-g
        try completions z"#;
    let output = Command::new("bash")
        .args(["-c", &(script + complete)])
        .output();
    let output = output.expect("bash is there");
    let completed = String::from_utf8_lossy(&output.stdout);
    let expected = ["annotate", "--task", "segment", "--keep-going", "zsh"];
    assert_eq!(
        completed.lines().collect::<Vec<_>>(),
        expected,
        "{output:?}"
    );
}

#[test]
fn there_is_a_manual_page_of_the_program_and_of_each_command() {
    let page = printed(&["man"]);
    for command in COMMANDS {
        assert_tells(&page, &[&format!(r"paligemma\-server\-{command}(1)")]);
        let page = printed(&["man", command]);
        let name = format!(r"paligemma\-server\-{command} \- ");
        assert_tells(&page, &[".SH NAME", &name, ".SH SYNOPSIS", ".SH EXAMPLES"]);
    }
    assert_tells(&page, &[".TH", ".SH EXAMPLES", r#".SH "EXIT CODES""#]);
    assert!(
        !page.contains("AVX") && !page.contains("avx2"),
        "as on any machine"
    );
    let settings = printed(&["man", "serve"]);
    assert_tells(&settings, &[r"\-\-max\-token\-gap", ".SH NETWORK"]);
    assert_tells(&failure(&run(&["man", "paint"]), 2), &["paint", "annotate"]);
}

#[test]
fn the_release_has_the_binary_with_completions_and_all_pages() {
    let folder = tempfile::tempdir().unwrap();
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/release/pack.sh");
    let script = r#"tar -xzf "$("$0" "$1" "$2")" -C "$2" && cd "$2" && find bin share -type f"#;
    let output = Command::new("bash")
        .args(["-c", script])
        .arg(pack)
        .arg(env!("CARGO_BIN_EXE_paligemma-server"))
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let files = String::from_utf8(output.stdout).unwrap();
    for file in [
        "bin/paligemma-server",
        "share/bash-completion/completions/paligemma-server",
        "share/fish/vendor_completions.d/paligemma-server.fish",
        "share/zsh/site-functions/_paligemma-server",
        "share/man/man1/paligemma-server.1",
    ] {
        assert!(
            files.lines().any(|line| line == file),
            "no {file} in {files}"
        );
    }
    for command in COMMANDS {
        let page = format!("share/man/man1/paligemma-server-{command}.1");
        let page = std::fs::read_to_string(folder.path().join(page)).unwrap();
        assert_tells(&page, &[".TH", ".SH EXAMPLES"]);
    }
}
