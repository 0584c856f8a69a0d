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
    let goldens = checks.iter().filter(|check| {
        let name = check["name"].as_str().unwrap();
        name.starts_with("the demo's tokens in f32") && check["allowed"] == 0.0
    });
    assert_eq!(goldens.count(), 3);
    assert_eq!(report["speed"], Value::Array(Vec::new()));
}

#[test]
fn the_doctor_refuses_a_device_that_is_not_there() {
    let output = binary(&["doctor", "--device", "cuda:99"]).output().unwrap();
    let error = failure(&output, 2);
    assert_tells(&error, &["cuda:99"]);
}

#[test]
fn a_doctor_without_time_reports_what_it_has_and_fails() {
    let limited = ["doctor", "--device", "cpu", "--json", "--time-limit", "1ms"];
    let output = binary(&limited).output().unwrap();
    assert_tells(&failure(&output, 1), &["finished in time"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let failed: Vec<_> = checks.iter().filter(|it| it["ok"] == false).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0]["finding"].as_str().unwrap().contains("1ms"));
}
