//! Labelling a folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{assert_tells, binary, failure, run};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images");

fn annotate(path: &str, output: &Path, more: &[&str]) -> Output {
    let output = output.to_str().unwrap();
    run(&[&["annotate", "--output", output, path], more].concat())
}

/// The last line that a failure prints, after the log.
#[track_caller]
fn last_line(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr.lines().last().unwrap_or_default().to_owned()
}

/// A folder with a good picture, and with a file that is none.
fn good_and_bad() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("deep");
    std::fs::create_dir(&deep).unwrap();
    std::fs::write(deep.join("bad.jpg"), "no picture").unwrap();
    let good = Path::new(EXAMPLES).join("red-circle.png");
    std::fs::copy(good, deep.join("good.png")).unwrap();
    folder
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
fn a_file_that_is_not_a_picture_is_recorded_with_its_error_and_makes_the_exit_code_4() {
    let (pictures, folder) = (good_and_bad(), tempfile::tempdir().unwrap());
    let path = folder.path().join("answers.jsonl");
    let question = ["--task", "vqa", "--question", "what color is the circle?"];
    let pictures = pictures.path().to_str().unwrap();
    let first = annotate(pictures, &path, &question);
    let failed = [
        "error: 1 of 2 pictures have no label",
        path.to_str().unwrap(),
    ];
    assert_tells(&last_line(&first, 4), &failed);
    let records = records(&path);
    let error = records["deep/bad.jpg"]["error"].as_str().unwrap();
    assert!(error.contains("not an image"), "{error}");
    assert_eq!(records["deep/good.png"]["text"], "red");

    // It still has none after a run that had nothing to do.
    let again = annotate(pictures, &path, &question);
    assert_tells(&last_line(&again, 4), &failed);
    let keep_going = [&question[..], &["--keep-going"]].concat();
    let all_the_same = annotate(pictures, &path, &keep_going);
    assert_tells(&last_line(&all_the_same, 0), &["WARN", "1 of 2 pictures"]);
    // Failures of pictures that this run is not about don't count.
    let others = [&question[..], &["--include", "**/good.png"]].concat();
    assert_success(&annotate(pictures, &path, &others));
}

#[test]
fn a_file_that_cannot_be_read_gets_no_line_and_makes_the_exit_code_4() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("texts.jsonl");
    // A picture that is gone when it is read. Permissions would not stop root.
    let gone = folder.path().join("gone.png");
    std::os::unix::fs::symlink("/proc/self/mem", &gone).unwrap();
    let good = format!("{EXAMPLES}/red-circle.png");
    let output = annotate(&good, &path, &[gone.to_str().unwrap(), "--task", "ocr"]);
    let words = ["1 of 2 pictures have no label", "1 that could not be read"];
    assert_tells(&last_line(&output, 4), &words);
    assert_eq!(records(&path).into_keys().collect::<Vec<_>>(), [good]);
}

#[test]
fn files_are_taken_beside_folders_and_keep_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("texts.jsonl");
    let one = format!("{EXAMPLES}/red-circle.png");
    let caption = ["--task", "caption"];
    assert_success(&annotate(&one, &path, &caption));
    assert!(records(&path).into_keys().eq([one.clone()]));

    let more = folder.path().join("more");
    std::fs::create_dir(&more).unwrap();
    std::fs::copy(&one, more.join("a.png")).unwrap();
    let more = more.to_str().unwrap();
    let output = annotate(&one, &path, &[&[more], &caption[..]].concat());
    assert_success(&output);
    let names = records(&path).into_keys().collect::<Vec<_>>();
    let mut expected = vec![one, format!("{more}/a.png")];
    expected.sort();
    assert_eq!(names, expected);
    // Only the new one was labelled, and at no rate of 0.0.
    let log = String::from_utf8(output.stderr).unwrap();
    assert_tells(&log, &["done=2 all=2 failed=0 rate="]);
    assert!(!log.contains("0.0/"), "{log}");
}

#[test]
fn objects_below_the_score_are_left_out_of_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let (all, none) = (folder.path().join("all"), folder.path().join("none"));
    let one = format!("{EXAMPLES}/red-circle.png");
    let detect = ["--task", "detect", "--object", "red circle"];
    assert_success(&annotate(&one, &all, &detect));
    let found = &records(&all)[&one];
    assert_ne!(found["objects"], json!([]));
    assert!(found.get("min_score").is_none(), "{found}");

    let strict = [&detect[..], &["--min-score", "1"]].concat();
    assert_success(&annotate(&one, &none, &strict));
    let left = &records(&none)[&one];
    assert_eq!(left["objects"], json!([]));
    assert_eq!(
        (&left["min_score"], &left["text"]),
        (&json!(1.0), &found["text"])
    );

    let mixed = annotate(&one, &all, &strict);
    assert_tells(&failure(&mixed, 1), &["--min-score 1", "another file"]);
    let wrong = annotate(&one, &all, &[&detect[..], &["--min-score", "1.5"]].concat());
    assert_eq!(wrong.status.code(), Some(2));
    let stderr = String::from_utf8(wrong.stderr).unwrap();
    assert_tells(&stderr, &["--min-score", "1.5", "from 0 to 1"]);
}

#[test]
fn cut_answers_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("captions.jsonl");
    let one = format!("{EXAMPLES}/red-circle.png");
    let output = annotate(
        &one,
        &path,
        &["--task", "caption", "--max-tokens-default", "1"],
    );
    let words = ["cut answers: 1", "raise --max-tokens-default, now 1"];
    assert_tells(&last_line(&output, 0), &words);
    assert_eq!(records(&path)[&one]["finish_reason"], "length");
}

#[test]
fn a_signal_stops_it_with_code_1_and_keeps_what_is_labelled() {
    let folder = tempfile::tempdir().unwrap();
    let (path, pipe) = (
        folder.path().join("texts.jsonl"),
        folder.path().join("pipe"),
    );
    // Reading it ends when someone has written to it, which nobody does.
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let picture = format!("{EXAMPLES}/red-circle.png");
    let mut command = binary(&[
        "annotate",
        &picture,
        "--task",
        "caption",
        "--log-level",
        "off",
    ]);
    command.arg(&pipe).arg("--output").arg(&path);
    let process = command.stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !std::fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')) {
        assert!(begun.elapsed() < Duration::from_secs(60), "no label");
        std::thread::sleep(Duration::from_millis(20));
    }
    let kill = format!("kill -INT {}", process.id());
    assert!(
        Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
    let output = process.wait_with_output().unwrap();
    let words = ["SIGINT", "1 of 2 pictures are labelled", "the same command"];
    assert_tells(&failure(&output, 1), &words);
    assert_eq!(records(&path).len(), 1);
}

#[test]
fn a_run_that_writes_no_line_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    for (pictures, more) in [
        (empty, &[][..]),
        (EXAMPLES, &["--model", "./nowhere"][..]),
        (EXAMPLES, &["--coco", "/nowhere/coco.json"]),
    ] {
        let task = ["--task", "detect", "--object", "cat"];
        let output = annotate(pictures, &path, &[&task[..], more].concat());
        failure(&output, 1);
        assert!(!path.exists(), "{more:?}");
    }
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
    assert_tells(&failure(&output, 2), &["--coco", "detect and segment"]);
    let output = annotate(EXAMPLES, &path, &["--task", "detect"]);
    assert_tells(&failure(&output, 2), &["--object"]);
    let output = annotate(EXAMPLES, &path, &["--task", "ocr", "--include", "***"]);
    assert_tells(&failure(&output, 2), &["--include ***"]);
}

#[test]
fn coco_never_overwrites_the_labels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("found.jsonl");
    let link = folder.path().join("link.json");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let spelt = folder.path().join("./found.jsonl");
    let nowhere = folder.path().join("nowhere/found.json");
    for (coco, code, words) in [
        (&path, 2, "same file"),
        (&spelt, 2, "same file"),
        (&link, 2, "same file"),
        (&nowhere, 1, "does not exist"),
    ] {
        let coco = coco.to_str().unwrap();
        let more = ["--task", "detect", "--object", "cat", "--coco", coco];
        let output = annotate(EXAMPLES, &path, &more);
        assert_tells(&failure(&output, code), &["--coco", words]);
    }
}

#[test]
fn wrong_flags_and_those_of_another_task_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.jsonl");
    for (more, words) in [
        (
            &["--task", "caption", "--object", "cat"][..],
            "--object is for --task detect and segment",
        ),
        (
            &["--task", "ocr", "--question", "what?"],
            "--question is for --task vqa",
        ),
        (
            &["--task", "detect", "--object", "cat", "--length", "short"],
            "--length is for --task caption",
        ),
        (
            &["--task", "caption", "--language", "xx;;"],
            "language codes",
        ),
        (&["--task", "vqa", "--question", " "], "--question is empty"),
    ] {
        let output = annotate(EXAMPLES, &path, more);
        assert_tells(&failure(&output, 2), &[words]);
        assert!(!path.exists());
    }
}

#[test]
fn the_pictures_of_a_manifest_are_labelled_in_shards_that_together_are_all() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("list.txt");
    let mut lines = vec!["# drawings".to_owned()];
    for picture in std::fs::read_dir(EXAMPLES).unwrap() {
        let path = picture.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if ["jpg", "png"].contains(&path.extension().unwrap().to_str().unwrap()) {
            std::fs::copy(&path, folder.path().join(&name)).unwrap();
            lines.push(name);
        }
    }
    std::fs::write(&manifest, lines.join("\n")).unwrap();
    let shard = |number: usize| {
        let path = folder.path().join(format!("{number}.jsonl"));
        let shard = format!("{number}/3");
        let manifest = manifest.to_str().unwrap();
        let more = ["--task", "caption", "--shard", &shard];
        assert_success(&annotate(
            "--manifest",
            &path,
            &[&[manifest], &more[..]].concat(),
        ));
        records(&path)
    };
    let shards = [shard(1), shard(2), shard(3)];
    let mut names: Vec<_> = shards.iter().flat_map(BTreeMap::keys).cloned().collect();
    names.sort();
    let mut expected = lines.split_off(1);
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn wrong_manifests_and_shards_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.jsonl");
    let empty = folder.path().join("empty.txt");
    std::fs::write(&empty, "# none\n").unwrap();
    let ocr = ["--task", "ocr"];
    for (manifest, words) in [
        (empty.to_str().unwrap(), "holds no pictures"),
        ("/nowhere.txt", "No such file"),
        ("-", "holds no pictures"),
    ] {
        let output = annotate("--manifest", &path, &[&[manifest], &ocr[..]].concat());
        assert_tells(&failure(&output, 1), &["--manifest", manifest, words]);
    }
    let both = annotate(EXAMPLES, &path, &["--manifest", "x", "--task", "ocr"]);
    assert_eq!(both.status.code(), Some(2));
    let shard = annotate(EXAMPLES, &path, &["--shard", "0/4", "--task", "ocr"]);
    let stderr = String::from_utf8(shard.stderr).unwrap();
    assert_eq!(shard.status.code(), Some(2));
    assert_tells(&stderr, &["--shard", "0/4", "part I of N"]);
}
