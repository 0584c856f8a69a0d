//! `doctor`, without its figures of speed.

use serde_json::Value;

use super::{assert_tells, binary, failure};

#[test]
fn the_doctor_finds_this_machine_well_and_says_what_it_is() {
    let output = binary(&["doctor", "--device", "cpu", "--only-checks", "--json"]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let facts = report["machine"].as_array().unwrap();
    let runs_on = facts.iter().find(|fact| fact["name"] == "runs on").unwrap();
    assert_eq!(runs_on["value"], "cpu, q8_0");
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["ok"] == true), "{checks:?}");
    // Quantised weights are never quite the same: so the comparison compares.
    let is_quantised = |check: &&Value| check["name"].as_str().unwrap().contains("layer in q8_0");
    let quantised: Vec<_> = checks.iter().filter(is_quantised).collect();
    assert!(quantised.len() > 5);
    assert!(
        quantised
            .iter()
            .all(|check| check["error"].as_f64() > Some(0.0))
    );
    assert_eq!(report["speed"], Value::Array(Vec::new()));
}

#[test]
fn the_doctor_refuses_a_device_that_is_not_there() {
    let output = binary(&["doctor", "--device", "cuda:99"]).output().unwrap();
    let error = failure(&output, 2);
    assert_tells(&error, &["cuda:99"]);
}
