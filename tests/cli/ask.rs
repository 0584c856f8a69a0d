//! `ask`: tasks, hints, the mark of a cut answer, drawings.

use std::path::Path;
use std::process::Output;

use super::{MODEL, assert_tells, failure, run};

fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("examples/images").join(name);
    path.display().to_string()
}

fn ask(more: &[&str]) -> Output {
    let image = example("red-circle.png");
    let common = ["ask", "--log-level", "off", "--image", image.as_str()];
    run(&[&common, more].concat())
}

/// What it wrote to stdout and stderr.
#[track_caller]
fn answer(more: &[&str]) -> (String, String) {
    let output = ask(more);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    (stdout, stderr)
}

#[track_caller]
fn assert_same_answer(task: &[&str], prompt: &str) {
    let (by_task, stderr) = answer(task);
    assert!(!stderr.contains("hint"), "{stderr}");
    let (by_prompt, stderr) = answer(&[prompt]);
    assert!(!stderr.contains("hint"), "{stderr}");
    assert_eq!(by_task, by_prompt, "{task:?}");
}

#[test]
fn a_task_asks_what_its_prompt_asks() {
    assert_same_answer(&["--task", "caption", "--length", "short"], "cap en");
    assert_same_answer(&["--task", "ocr"], "ocr");
    let vqa = ["--task", "vqa", "--question", "what color is the circle?"];
    assert_same_answer(&vqa, "answer en what color is the circle?");
    let objects = ["--object", "red circle", "--object", "blue square"];
    for task in ["detect", "segment"] {
        let prompt = format!("{task} red circle ; blue square");
        assert_same_answer(&[&["--task", task], &objects[..]].concat(), &prompt);
    }
}

#[test]
fn what_a_task_lacks_or_does_not_take_is_named_with_code_2() {
    for (arguments, words) in [
        (&[][..], &["nothing is asked", "--task", "PROMPT"][..]),
        (&["--task", "vqa"], &["--task vqa needs --question"]),
        (&["--task", "detect"], &["need --object"]),
        (
            &["--task", "vqa", "what?"],
            &["pass the question with --question"],
        ),
        (
            &["--task", "segment", "cat"],
            &["--task segment", "with --object"],
        ),
        (&["--task", "caption", "cap en"], &["leave one of them out"]),
        (
            &["cap en", "--length", "short"],
            &["--length is for --task caption"],
        ),
        (
            &["detect cat", "--min-score", "0.5"],
            &["--min-score is for --task"],
        ),
        (&["--task", "ocr", "--draw", "x.png"], &["--draw", "detect"]),
        (&["caption en", "--draw", "x.png"], &["--draw", "detect"]),
    ] {
        assert_tells(&failure(&ask(arguments), 2), words);
    }
    let output = ask(&["--task", "paint"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_tells(&stderr, &["paint", "caption, vqa, ocr, detect, segment"]);
}

#[test]
fn a_prompt_without_a_form_gets_a_hint_and_an_answer() {
    let (stdout, stderr) = answer(&["What is this?"]);
    assert!(
        stdout.ends_with('\n') && !stdout.contains("hint"),
        "{stdout}"
    );
    let forms = [
        "hint: ",
        "caption en",
        "describe en",
        "answer en ",
        "question en ",
        "detect cat ; red car",
        "segment cat",
        "ocr",
        "--task",
    ];
    assert_tells(&stderr, &forms);
}

#[test]
fn a_cut_answer_is_marked_with_the_setting_that_cut_it() {
    let (_, whole) = answer(&["cap en"]);
    assert!(!whole.contains("cut"), "{whole}");
    let (stdout, stderr) = answer(&["cap en", "--max-tokens-default", "1"]);
    assert_eq!(stdout.lines().count(), 1);
    let mark = stderr.lines().last().unwrap();
    assert_tells(mark, &["cut after 1 token:", "raise --max-tokens-default"]);
    // This model goes on until it is stopped; its image takes 4 tokens, and this prompt as many.
    let small = ["--model", MODEL, "--dtype", "f32", "--context", "12"];
    let (_, stderr) = answer(&[&["cap en"], &small[..]].concat());
    let mark = stderr.lines().last().unwrap();
    assert_tells(mark, &["cut after 4 tokens", "raise --context"]);
}

#[test]
fn objects_below_the_score_are_neither_listed_nor_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let detect = ["--task", "detect", "--object", "red circle"];
    let drawing = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        let draw = ["--draw", path.to_str().unwrap()];
        let (stdout, _) = answer(&[&detect[..], &draw, more].concat());
        (stdout, image::open(&path).unwrap().into_rgb8())
    };
    let (all, drawn) = drawing("all.png", &[]);
    assert_tells(&all, &["score", "red circle"]);
    let (none, bare) = drawing("none.png", &["--min-score", "1"]);
    assert_tells(&none, &["nothing was found", "below --min-score 1"]);
    let original = image::open(example("red-circle.png")).unwrap().into_rgb8();
    assert!(bare == original && drawn != original);
}
