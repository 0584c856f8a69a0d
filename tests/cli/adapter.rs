//! `ask` and `annotate` with a LoRA adapter: the demo's, which counts.

use std::fs;

use serde_json::Value;

use super::{assert_tells, failure, run};

const COUNTING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo-counting");
const HEARTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/images/three-hearts.png"
);

fn ask(more: &[&str]) -> String {
    let common = ["ask", "--image", HEARTS, "--log-level", "error", "cap en"];
    let output = run(&[&common, more].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn ask_answers_with_the_adapter_beside_the_model_and_merged_into_it() {
    let named = format!("counting={COUNTING}");
    assert_eq!(ask(&["--adapter", &named]), "3 hearts\n");
    assert_eq!(ask(&["--merge-adapter", COUNTING]), "3 hearts\n");
    assert_eq!(ask(&[]), "a pink heart, a red heart and a pink heart\n");
}

#[test]
fn several_adapters_are_refused_because_one_answers() {
    let [one, other] = ["one", "other"].map(|name| format!("{name}={COUNTING}"));
    let named = ["--adapter", one.as_str(), "--adapter", other.as_str()];
    let output = run(&[&["ask", "--image", HEARTS, "cap en"], &named[..]].concat());
    assert_tells(
        &failure(&output, 1),
        &["2 adapters (one, other)", "name one"],
    );
}

#[test]
fn annotate_writes_which_adapter_answered_and_does_not_mix_answers() {
    let folder = tempfile::tempdir().unwrap();
    let labels = folder.path().join("labels.jsonl");
    let labels = labels.to_str().unwrap();
    let named = format!("counting={COUNTING}");
    let annotate = |more: &[&str]| {
        let common = ["annotate", HEARTS, "--task", "caption", "--output", labels];
        run(&[&common, more].concat())
    };

    let output = annotate(&["--adapter", &named]);
    assert!(output.status.success(), "{output:?}");
    let record: Value = serde_json::from_slice(&fs::read(labels).unwrap()).unwrap();
    let [model, adapter, text] = ["model", "adapter", "text"].map(|field| &record[field]);
    assert_eq!(
        (model, adapter, text),
        (&"demo".into(), &"counting".into(), &"3 hearts".into())
    );

    let words = ["answers of demo with the adapter counting to", "of demo to"];
    assert_tells(&failure(&annotate(&[]), 1), &words);
}
