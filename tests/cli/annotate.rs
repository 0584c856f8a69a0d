//! Labelling a folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use super::{assert_tells, failure, run};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images");

fn annotate(folder: &str, output: &Path, more: &[&str]) -> Output {
    let output = output.to_str().unwrap();
    run(&[&["annotate", folder, "--output", output], more].concat())
}

/// Records by file.
fn records(output: &Path) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(output).unwrap();
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    records
        .map(|record: Value| (record["file"].as_str().unwrap().to_owned(), record))
        .collect()
}

#[track_caller]
fn assert_success(output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}

#[test]
fn every_picture_in_a_folder_is_captioned_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("captions.jsonl");
    let caption = ["--task", "caption", "--length", "short"];
    let some = [&caption[..], &["--include", "*.jpg"]].concat();
    assert_success(&annotate(EXAMPLES, &path, &some));
    assert_eq!(records(&path).len(), 3);
    assert_success(&annotate(EXAMPLES, &path, &caption));
    let whole = std::fs::read_to_string(&path).unwrap();
    assert_eq!(whole.lines().count(), 12);
    let records = records(&path);
    assert_eq!(records["red-circle.png"]["text"], "a red circle");
    // Upright, as a person sees it.
    let size = |side: &str| records["exif-rotated.jpg"][side].as_u64().unwrap();
    assert_eq!((size("width"), size("height")), (360, 480));

    assert_success(&annotate(EXAMPLES, &path, &caption));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    let other = annotate(EXAMPLES, &path, &["--task", "ocr"]);
    assert_tells(&failure(&other, 1), &["cap en", "ocr", "another file"]);
}

#[test]
fn a_file_that_is_not_a_picture_is_recorded_with_its_error_and_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures/deep");
    std::fs::create_dir_all(&pictures).unwrap();
    std::fs::write(pictures.join("bad.jpg"), "no picture").unwrap();
    let good = Path::new(EXAMPLES).join("red-circle.png");
    std::fs::copy(good, pictures.join("good.png")).unwrap();
    let path = folder.path().join("answers.jsonl");
    let question = ["--task", "vqa", "--question", "what color is the circle?"];
    let pictures = folder.path().join("pictures");
    assert_success(&annotate(pictures.to_str().unwrap(), &path, &question));
    let records = records(&path);
    let error = records["deep/bad.jpg"]["error"].as_str().unwrap();
    assert!(error.contains("not an image"), "{error}");
    assert_eq!(records["deep/good.png"]["text"], "red");
}

#[test]
fn objects_become_a_coco_document_with_masks() {
    let folder = tempfile::tempdir().unwrap();
    let (path, coco) = (
        folder.path().join("a.jsonl"),
        folder.path().join("coco.json"),
    );
    let coco_path = coco.to_str().unwrap();
    let more = [
        "--task",
        "segment",
        "--object",
        "red circle",
        "--include",
        "red*",
        "--coco",
        coco_path,
    ];
    assert_success(&annotate(EXAMPLES, &path, &more));
    let document: Value = serde_json::from_slice(&std::fs::read(&coco).unwrap()).unwrap();
    let image = json!([{"id": 1, "file_name": "red-circle.png", "width": 320, "height": 320}]);
    assert_eq!(document["images"], image);
    assert_eq!(
        document["categories"],
        json!([{"id": 1, "name": "red circle"}])
    );
    let annotation = &document["annotations"][0];
    let number = |value: &Value| value.as_f64().unwrap();
    let expected = [96.0, 86.4, 128.0, 128.0];
    for (found, expected) in annotation["bbox"].as_array().unwrap().iter().zip(expected) {
        assert!((number(found) - expected).abs() < 12.0, "{annotation}");
    }
    // A circle of radius 64.
    assert!(
        (number(&annotation["area"]) - 12_868.0).abs() < 2_500.0,
        "{annotation}"
    );
    assert_eq!(annotation["segmentation"]["size"], json!([320, 320]));
    assert_eq!(
        (&annotation["image_id"], &annotation["iscrowd"]),
        (&json!(1), &json!(0))
    );
}

#[test]
fn an_impossible_run_is_refused_before_anything_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let empty = folder.path().to_str().unwrap();
    let output = annotate(empty, &path, &["--task", "ocr"]);
    assert_tells(&failure(&output, 1), &["holds no pictures"]);
    let output = annotate("/nowhere", &path, &["--task", "ocr"]);
    assert_tells(&failure(&output, 1), &["/nowhere", "No such file"]);
    let output = annotate(EXAMPLES, &path, &["--task", "ocr", "--coco", "x.json"]);
    assert_tells(&failure(&output, 1), &["--coco", "detect and segment"]);
    let output = annotate(EXAMPLES, &path, &["--task", "detect"]);
    assert_eq!(output.status.code(), Some(2));
    assert_tells(&String::from_utf8_lossy(&output.stderr), &["--object"]);
}

#[test]
fn coco_never_overwrites_the_labels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("found.jsonl");
    let link = folder.path().join("link.json");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let spelt = folder.path().join("./found.jsonl");
    let nowhere = folder.path().join("nowhere/found.json");
    for (coco, words) in [
        (&path, "same file"),
        (&spelt, "same file"),
        (&link, "same file"),
        (&nowhere, "does not exist"),
    ] {
        let coco = coco.to_str().unwrap();
        let more = ["--task", "detect", "--object", "cat", "--coco", coco];
        let output = annotate(EXAMPLES, &path, &more);
        assert_tells(&failure(&output, 1), &["--coco", words]);
    }
}

#[test]
fn wrong_flags_and_those_of_another_task_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.jsonl");
    for (more, words) in [
        (
            &["--task", "caption", "--object", "cat"][..],
            "--object is for detect and segment",
        ),
        (
            &["--task", "ocr", "--question", "what?"],
            "--question is for vqa",
        ),
        (
            &["--task", "detect", "--object", "cat", "--length", "short"],
            "--length is for caption",
        ),
        (
            &["--task", "caption", "--language", "xx;;"],
            "language codes",
        ),
        (&["--task", "vqa", "--question", " "], "--question is empty"),
    ] {
        let output = annotate(EXAMPLES, &path, more);
        assert_tells(&failure(&output, 1), &[words]);
        assert!(!path.exists());
    }
}
