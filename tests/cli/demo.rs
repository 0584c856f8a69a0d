//! Without `--model`, the demo that is part of the binary answers.

use std::io::Read;
use std::path::Path;

use super::life::Server;
use super::run;

fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("examples/images")
        .join(name)
        .display()
        .to_string()
}

#[test]
fn ask_names_the_red_circle() {
    let output = run(&["ask", "--image", &example("red-circle.png"), "cap en"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a red circle\n");
}

#[test]
fn the_server_says_in_its_log_and_its_list_of_models_that_it_is_a_demo() {
    let mut server = Server::started(&["serve", "--port", "0"]);
    server.wait_for_log("the built-in demo");
    let mut answer = String::new();
    server
        .send("GET /v1/models", "")
        .read_to_string(&mut answer)
        .unwrap();
    assert!(answer.contains(r#""id":"demo""#), "{answer}");
    assert!(
        answer.contains("coloured shapes and knows nothing of photos"),
        "{answer}"
    );
}
