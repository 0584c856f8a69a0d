//! What is said of files of other formats, and of an adapter beside a model.

use std::fs;
use std::path::Path;

use super::{MODEL, assert_tells, failure, run};

/// A folder with the files of another.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_file_of_another_format_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("paligemma-q4_0.gguf");
    fs::write(&file, "GGUF").unwrap();
    let output = run(&["serve", "--model", file.to_str().unwrap()]);
    assert_tells(
        &failure(&output, 1),
        &["GGUF", "paligemma-q4_0.gguf", "use"],
    );
}

#[test]
fn an_adapter_beside_a_model_is_mentioned_unless_it_is_named() {
    let goldens = Path::new(MODEL).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    copy(&goldens.join("pg1-hub"), folder.path());
    copy(
        &goldens.with_file_name("adapters").join("pg1-usual-bf16"),
        folder.path(),
    );
    let model = folder.path().to_str().unwrap();
    let image = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/images/red-circle.png"
    );
    let ask = [
        "ask",
        "--model",
        model,
        "--log-level",
        "warn",
        "--image",
        image,
    ];
    let asked = |more: &[&str]| {
        let output = run(&[&ask[..], more, &["caption en"]].concat());
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    };
    assert_tells(
        &asked(&[]),
        &["also holds an adapter, which is not applied"],
    );
    for named in [
        ["--merge-adapter", model],
        ["--adapter", &format!("own={model}")],
    ] {
        let stderr = asked(&named);
        assert!(!stderr.contains("also holds an adapter"), "{stderr}");
    }
}
