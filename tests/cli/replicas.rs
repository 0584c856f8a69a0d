//! Labelling with running servers.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::life::{LONG, Server};
use super::{assert_tells, binary, failure, run};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images");

/// A server of the demo, and its URL. Nobody reads its log.
fn demo(flags: &[&str]) -> (Server, String) {
    let serve = ["serve", "--port", "0", "--log-level", "off"];
    let server = Server::ready_as(&[&serve, flags].concat());
    let url = format!("http://{}", server.address());
    (server, url)
}

fn annotate(pictures: &Path, output: &Path, more: &[&str]) -> Output {
    let (pictures, output) = (pictures.to_str().unwrap(), output.to_str().unwrap());
    run(&[&["annotate", pictures, "--output", output], more].concat())
}

/// Records by file; each file has one.
#[track_caller]
fn records(output: &Path) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(output).unwrap();
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let named: BTreeMap<_, _> = records
        .map(|record| (record["file"].as_str().unwrap().to_owned(), record))
        .collect();
    assert_eq!(named.len(), text.lines().count(), "a file has two records");
    named
}

/// A folder with so many copies of a picture.
fn copies(number: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for copy in 0..number {
        let to = folder.path().join(format!("{copy}.png"));
        std::fs::copy(format!("{EXAMPLES}/red-circle.png"), to).unwrap();
    }
    folder
}

/// Starts labelling and waits for some records.
fn begun(pictures: &Path, output: &Path, more: &[&str], lines: usize) -> Child {
    let mut command = binary(&["annotate"]);
    command.arg(pictures).arg("--output").arg(output).args(more);
    let process = command.stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    let count = || std::fs::read_to_string(output).map_or(0, |text| text.lines().count());
    while count() < lines {
        assert!(begun.elapsed() < LONG, "no labels");
        std::thread::sleep(Duration::from_millis(2));
    }
    process
}

fn signal(process: &Child, name: &str) {
    let kill = format!("kill -{name} {}", process.id());
    let sent = std::process::Command::new("sh")
        .args(["-c", &kill])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
fn servers_give_the_records_of_a_model_in_this_process() {
    let pictures = tempfile::tempdir().unwrap();
    for picture in std::fs::read_dir(EXAMPLES).unwrap() {
        let path = picture.unwrap().path();
        let to = pictures.path().join(path.file_name().unwrap());
        std::fs::copy(path, to).unwrap();
    }
    for (name, bytes) in [("bad.jpg", &b"no picture"[..]), ("empty.png", b"")] {
        std::fs::write(pictures.path().join(name), bytes).unwrap();
    }
    let (one, other) = (demo(&[]), demo(&[]));
    let servers = ["--keep-going", "--server", &one.1, "--server", &other.1];
    let folder = tempfile::tempdir().unwrap();
    let objects = ["--object", "red circle", "--object", "blue square"];
    for (name, task) in [
        ("caption", &["--task", "caption", "--language", "en"][..]),
        ("ocr", &["--task", "ocr", "--max-tokens-default", "2"]),
        (
            "vqa",
            &["--task", "vqa", "--question", "what color is the circle?"],
        ),
        ("detect", &[&["--task", "detect"], &objects[..]].concat()),
        (
            "segment",
            &[&["--task", "segment", "--min-score", "0.9"], &objects[..]].concat(),
        ),
    ] {
        let (own, theirs) = (
            folder.path().join(format!("{name}-own")),
            folder.path().join(format!("{name}-theirs")),
        );
        let output = annotate(pictures.path(), &own, &[task, &["--keep-going"]].concat());
        assert!(output.status.success(), "{output:?}");
        let output = annotate(pictures.path(), &theirs, &[task, &servers].concat());
        assert!(output.status.success(), "{output:?}");
        let (own, theirs) = (records(&own), records(&theirs));
        assert!(own.keys().eq(theirs.keys()));
        for (file, record) in own {
            assert_eq!(theirs[&file], record, "{name} {file}");
        }
    }
}

#[test]
fn a_server_that_dies_loses_no_picture() {
    let (one, other) = (demo(&[]), demo(&[]));
    let (pictures, folder) = (copies(300), tempfile::tempdir().unwrap());
    let path = folder.path().join("out.jsonl");
    let flags = [
        "--task", "caption", "--server", &one.1, "--server", &other.1,
    ];
    let process = begun(pictures.path(), &path, &flags, 20);
    one.0.signal("KILL");
    let output = process.wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert_eq!(records(&path).len(), 300);
    assert_tells(&log, &["gets no more pictures until it is ready", &one.1]);
}

#[test]
fn an_interrupted_run_resumes_where_it_was() {
    let server = demo(&[]);
    let (pictures, folder) = (copies(200), tempfile::tempdir().unwrap());
    let path = folder.path().join("out.jsonl");
    let task = ["--task", "caption", "--in-flight", "4"];
    let flags = [&task[..], &["--server", &server.1]].concat();
    for (name, lines) in [("KILL", 30), ("INT", 80)] {
        let process = begun(pictures.path(), &path, &flags, lines);
        signal(&process, name);
        assert!(!process.wait_with_output().unwrap().status.success());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() < 200, "{name}: nothing was left");
    }
    let output = annotate(pictures.path(), &path, &flags);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(records(&path).len(), 200);
}

#[test]
fn a_full_server_is_asked_again() {
    let server = demo(&["--slots", "1", "--queue", "1"]);
    let (pictures, folder) = (copies(40), tempfile::tempdir().unwrap());
    let path = folder.path().join("out.jsonl");
    let flags = ["--task", "caption", "--server", &server.1];
    let output = annotate(pictures.path(), &path, &flags);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(records(&path).len(), 40);
}

#[test]
fn what_servers_can_not_be_used_for_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let pictures = Path::new(EXAMPLES);
    let ocr = ["--task", "ocr", "--log-level", "off", "--server"];
    let with = |more: &[&str]| annotate(pictures, &path, &[&ocr, more].concat());

    let output = with(&[&nobody, "--server-wait", "1s"]);
    let words = ["no server was ready for 1 s", &nobody, "refused"];
    assert_tells(&failure(&output, 1), &words);
    let output = with(&[&nobody, "--model", "demo"]);
    assert_tells(&failure(&output, 2), &["--model", "with --server"]);
    let output = annotate(pictures, &path, &["--task", "ocr", "--in-flight", "2"]);
    assert_eq!(output.status.code(), Some(2));

    let named = demo(&["--served-model-name", "other"]);
    let demo = demo(&[]);
    let output = with(&[&demo.1, "--server-adapter", "cats"]);
    assert_tells(&failure(&output, 1), &[&demo.1, "no adapter cats"]);
    let many = copies(300);
    let both = [&ocr[..], &[&demo.1, "--server", &named.1]].concat();
    let output = annotate(many.path(), &folder.path().join("both"), &both);
    assert_tells(&failure(&output, 1), &["demo", "other", "the same model"]);
    assert!(!path.exists());
}

#[test]
fn the_key_of_the_servers_comes_from_the_environment() {
    let mut command = binary(&["serve", "--port", "0"]);
    command.env("PALIGEMMA_API_KEYS", "secret");
    let server = Server::until_ready(Server::run_by(&mut command));
    let url = format!("http://{}", server.address());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let with = |key: Option<&str>| {
        let mut command = binary(&["annotate", EXAMPLES, "--task", "caption"]);
        command.args(["--log-level", "off", "--server", &url, "--output"]);
        command.arg(&path);
        command.envs(key.map(|key| ("PALIGEMMA_API_KEYS", key)));
        command.output().unwrap()
    };
    assert_tells(&failure(&with(None), 1), &["PALIGEMMA_API_KEYS", &url]);
    assert_tells(
        &failure(&with(Some("wrong")), 1),
        &["PALIGEMMA_API_KEYS", &url],
    );
    assert!(with(Some("secret")).status.success());
    assert_eq!(records(&path).len(), 12);
}
