//! Labelling archives, and the labels in others' formats.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use super::{assert_tells, failure, run};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images");

fn annotate(pictures: &Path, output: &Path, more: &[&str]) -> Output {
    let (pictures, output) = (pictures.to_str().unwrap(), output.to_str().unwrap());
    run(&[&["annotate", pictures, "--output", output], more].concat())
}

#[track_caller]
fn assert_success(output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}

/// Texts by file.
fn texts(output: &Path) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(output).unwrap();
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    records
        .map(|record| {
            let file = record["file"].as_str().unwrap().to_owned();
            (file, record["text"].clone())
        })
        .collect()
}

#[test]
fn the_pictures_in_an_archive_are_labelled_as_those_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let under = |path: &str| folder.path().join(path);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all("./in", EXAMPLES).unwrap();
    let archive = archive.into_inner().unwrap();
    std::fs::write(under("s.tar"), &archive).unwrap();
    let caption = ["--task", "caption"];
    assert_success(&annotate(Path::new(EXAMPLES), &under("own"), &caption));
    assert_success(&annotate(&under("s.tar"), &under("tar"), &caption));
    let prefix = format!("{}/in/", under("s.tar").to_str().unwrap());
    let own = texts(&under("own")).into_iter();
    let own: BTreeMap<_, _> = own
        .map(|(file, text)| (format!("{prefix}{file}"), text))
        .collect();
    assert_eq!(texts(&under("tar")), own);

    // In a manifest it has its name there. What is behind the cut can't be read.
    std::fs::write(under("s.tar"), &archive[..archive.len() / 2]).unwrap();
    std::fs::write(under("list.txt"), "s.tar\n").unwrap();
    let list = under("list.txt");
    let flags = ["--manifest", list.to_str().unwrap(), "--include", "in/*"];
    let output = under("cut");
    let flags = [&["annotate"], &flags[..], &caption, &["--output"]].concat();
    let output = run(&[&flags[..], &[output.to_str().unwrap()]].concat());
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{log}");
    assert_tells(&log, &["can't be read", "the archive"]);
    let cut = texts(&under("cut"));
    assert!(!cut.is_empty() && cut.len() < own.len());
    assert!(cut.keys().all(|file| file.starts_with("s.tar/in/")));
}

#[test]
fn boxes_become_yolo_labels_and_label_studios_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("found.jsonl");
    let (yolo, tasks) = (folder.path().join("yolo"), folder.path().join("tasks.json"));
    let more = [
        "--task",
        "detect",
        "--object",
        "blue square",
        "--object",
        "red circle",
        "--include",
        "*.jpg",
        "--yolo",
        yolo.to_str().unwrap(),
        "--label-studio",
        tasks.to_str().unwrap(),
    ];
    assert_success(&annotate(Path::new(EXAMPLES), &path, &more));
    let read = |file: &str| std::fs::read_to_string(yolo.join(file)).unwrap();
    assert!(read("classes.txt").starts_with("blue square\nred circle\n"));
    assert_tells(
        &read("data.yaml"),
        &["  0: \"blue square\"", "train: images"],
    );
    let label = read("labels/circle-and-square.txt");
    let mut classes: Vec<_> = label.lines().map(|line| line.split(' ').next()).collect();
    classes.sort_unstable();
    assert_eq!(classes, [Some("0"), Some("1")]);

    let written: Value = serde_json::from_slice(&std::fs::read(&tasks).unwrap()).unwrap();
    assert_eq!(written.as_array().unwrap().len(), 3);
    let url = "/data/local-files/?d=circle-and-square.jpg";
    let task = written.as_array().unwrap().iter();
    let task = task
        .clone()
        .find(|task| task["data"]["image"] == url)
        .unwrap();
    let result = &task["predictions"][0]["result"];
    assert_eq!(result.as_array().unwrap().len(), 2);
    assert_eq!(result[0]["original_width"], 480);

    // Texts become answers; another place of the pictures is a flag.
    let path = folder.path().join("captions.jsonl");
    let tasks = tasks.to_str().unwrap();
    let more = ["--task", "caption", "--label-studio", tasks];
    let at = ["--include", "red*", "--picture-url", "https://example.org/"];
    assert_success(&annotate(Path::new(EXAMPLES), &path, &[more, at].concat()));
    let written: Value = serde_json::from_slice(&std::fs::read(tasks).unwrap()).unwrap();
    let data = json!({"image": "https://example.org/red-circle.png"});
    assert_eq!(written[0]["data"], data);
    let value = &written[0]["predictions"][0]["result"][0]["value"];
    assert_eq!(
        value,
        &json!({"text": ["a red circle on a white background"]})
    );
}

#[test]
fn impossible_outputs_are_refused_before_anything_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("found.jsonl");
    let same = path.to_str().unwrap();
    let pictures = tempfile::tempdir().unwrap();
    for name in ["a.png", "a.jpg"] {
        let to = pictures.path().join(name);
        std::fs::copy(format!("{EXAMPLES}/red-circle.png"), to).unwrap();
    }
    let detect = ["--task", "detect", "--object", "cat"];
    for (task, flags, code, words) in [
        (
            &["--task", "ocr"][..],
            ["--yolo", "x"],
            2,
            "detect and segment",
        ),
        (&detect, ["--yolo", same], 1, "this is no folder"),
        (&detect, ["--yolo", "x"], 1, "a.jpg and a.png"),
        (&detect, ["--label-studio", same], 2, "same file"),
        (
            &detect,
            ["--label-studio", "/nowhere/x"],
            1,
            "does not exist",
        ),
    ] {
        let output = annotate(pictures.path(), &path, &[task, &flags].concat());
        assert_tells(&failure(&output, code), &[flags[0], words]);
    }
}
