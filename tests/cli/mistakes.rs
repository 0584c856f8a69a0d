//! Error messages and exit codes of a wrong start.

use std::net::TcpListener;
use std::path::Path;

use super::{MODEL, assert_tells, binary, failure, run};

#[test]
fn a_flag_with_a_wrong_value_ends_the_start_with_code_2() {
    let output = run(&["serve", "--model", MODEL, "--port", "80800"]);
    assert_tells(
        &failure(&output, 2),
        &["port", "80800", "--port", "0 to 65535"],
    );
}

#[test]
fn a_negative_number_is_a_wrong_value_not_a_flag() {
    let output = run(&["serve", "--model", MODEL, "--slots", "-1"]);
    assert_tells(
        &failure(&output, 2),
        &["slots", "-1", "--slots", "1 to 1024"],
    );
}

#[test]
fn an_unknown_dtype_ends_the_start_with_code_2_and_names_those_there_are() {
    let output = run(&["serve", "--model", MODEL, "--dtype", "f16"]);
    assert_tells(
        &failure(&output, 2),
        &["dtype", "\"f16\"", "auto", "f32", "bf16", "q8_0", "q4k"],
    );
}

#[test]
fn a_variable_with_a_wrong_value_ends_the_start_with_code_2() {
    let output = binary(&["serve", "--model", MODEL])
        .env("PALIGEMMA_REQUEST_TIMEOUT", "soon")
        .output()
        .unwrap();
    let parts = [
        "request_timeout",
        "\"soon\"",
        "PALIGEMMA_REQUEST_TIMEOUT",
        "a duration",
    ];
    assert_tells(&failure(&output, 2), &parts);
}

#[test]
fn an_unknown_key_in_the_config_file_ends_the_start_with_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, "prot = 80\n").unwrap();
    let output = run(&[
        "serve",
        "--model",
        MODEL,
        "--config",
        file.to_str().unwrap(),
    ]);
    assert_tells(
        &failure(&output, 2),
        &["prot", "server.toml", "the nearest are port, "],
    );
}

#[test]
fn an_unknown_flag_ends_the_start_with_code_2_and_suggests_the_closest() {
    let output = run(&["serve", "--prot", "80"]);
    assert_eq!(output.status.code(), Some(2));
    assert_tells(
        &String::from_utf8(output.stderr).unwrap(),
        &["--prot", "--port"],
    );
}

#[test]
fn an_empty_model_ends_the_start_with_code_2() {
    let output = run(&["serve", "--model", ""]);
    assert_tells(&failure(&output, 2), &["model", "not empty"]);
}

#[test]
fn a_flag_beats_a_variable_and_a_variable_beats_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, "model = \"./of-the-file\"\n").unwrap();
    let with = |flag: &[&str], variable: Option<&str>| {
        let mut command = binary(&["serve", "--port", "0", "--config", file.to_str().unwrap()]);
        command.args(flag);
        if let Some(model) = variable {
            command.env("PALIGEMMA_MODEL", model);
        }
        failure(&command.output().unwrap(), 1)
    };
    let (flag, variable) = (["--model", "./of-the-flag"], Some("./of-the-variable"));
    assert_tells(&with(&flag, variable), &["./of-the-flag"]);
    assert_tells(&with(&[], variable), &["./of-the-variable"]);
    assert_tells(&with(&[], None), &["./of-the-file"]);
}

#[test]
fn a_model_that_is_neither_a_folder_nor_a_hub_id_ends_the_start_with_code_1() {
    let output = run(&["serve", "--port", "0", "--model", "./nowhere"]);
    assert_tells(
        &failure(&output, 1),
        &["./nowhere", "neither demo, a folder", "owner/name"],
    );
}

#[test]
fn a_hub_model_that_cannot_be_fetched_ends_the_start_with_code_1_and_one_reason() {
    let cache = tempfile::tempdir().unwrap();
    let output = binary(&["serve", "--port", "0", "--model", "google/paligemma-3b"])
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", cache.path())
        .output()
        .unwrap();
    let stderr = failure(&output, 1);
    assert_tells(&stderr, &["google/paligemma-3b", "can't be fetched"]);
    assert_eq!(
        stderr.matches("HF_HUB_OFFLINE is set").count(),
        1,
        "{stderr}"
    );
}

#[test]
fn a_file_that_is_not_json_ends_the_start_with_code_1_and_one_reason() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), "{").unwrap();
    let model = folder.path().to_str().unwrap();
    let stderr = failure(&run(&["serve", "--port", "0", "--model", model]), 1);
    assert_eq!(stderr.matches("EOF while parsing").count(), 1, "{stderr}");
}

#[test]
fn a_folder_without_a_checkpoint_ends_the_start_with_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&[
        "serve",
        "--port",
        "0",
        "--model",
        folder.path().to_str().unwrap(),
    ]);
    assert_tells(&failure(&output, 1), &["config.json", "missing"]);
}

#[test]
fn a_port_in_use_ends_the_start_with_code_1_before_anything_is_loaded() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = run(&["serve", "--model", "./nowhere", "--port", &port]);
    let parts = [
        format!("127.0.0.1:{port}"),
        "in use".to_owned(),
        "--port".to_owned(),
    ];
    assert_tells(&failure(&output, 1), &parts.each_ref().map(String::as_str));
}

#[test]
fn a_dtype_that_the_device_cannot_run_ends_the_start_with_code_2() {
    let output = run(&[
        "serve", "--model", MODEL, "--device", "cpu", "--dtype", "bf16",
    ]);
    assert_tells(&failure(&output, 2), &["bf16", "CPU", "q8_0"]);
}

#[test]
fn a_context_too_short_for_an_image_ends_the_start_with_code_2() {
    let output = run(&["serve", "--model", MODEL, "--port", "0", "--context", "3"]);
    let stderr = failure(&output, 2);
    assert_tells(&stderr, &["context", "3", "an image alone takes"]);
}

#[test]
fn weights_that_do_not_fit_the_configuration_end_the_start_with_code_1() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "model.safetensors"] {
        std::fs::copy(Path::new(MODEL).join(file), folder.path().join(file)).unwrap();
    }
    let config = std::fs::read(Path::new(MODEL).join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let layers = config["vision_config"]["num_hidden_layers"]
        .as_u64()
        .unwrap();
    config["vision_config"]["num_hidden_layers"] = (layers + 1).into();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();

    let model = folder.path().to_str().unwrap();
    let output = run(&[
        "serve",
        "--model",
        model,
        "--port",
        "0",
        "--log-level",
        "off",
    ]);
    assert_tells(&failure(&output, 1), &[&format!("layers.{layers}.")]);
}
