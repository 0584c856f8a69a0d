//! Without `--model`, the built-in demo answers.

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

#[test]
fn ask_lists_the_boxes_of_what_it_found_and_draws_them() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = folder.path().join("drawn.png");
    let (image, path) = (example("red-circle.png"), drawn.display().to_string());
    let output = run(&[
        "ask",
        "--image",
        &image,
        "segment red circle",
        "--draw",
        &path,
    ]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let row = stdout.lines().last().unwrap();
    assert!(row.ends_with("red circle"), "{stdout}");
    let corners: Vec<f64> = row
        .split_whitespace()
        .take(4)
        .map(|number| number.parse().unwrap())
        .collect();
    for (found, expected) in corners.iter().zip([96.0, 86.4, 224.0, 214.4]) {
        assert!((found - expected).abs() < 4.0, "{row}");
    }
    // The box's upper left corner is outlined in the table's colour.
    let drawn = image::open(&drawn).unwrap().into_rgb8();
    let corner = drawn.get_pixel(corners[0].round() as u32, corners[1].round() as u32);
    assert_eq!(corner.0, [230, 30, 40]);
    // So is its label, above it.
    let above = |y: u32| drawn.get_pixel(corners[0].round() as u32, y).0 == [230, 30, 40];
    let label = (0..corners[1].round() as u32).filter(|y| above(*y)).count();
    assert!(label > 10, "{label} rows");
}
