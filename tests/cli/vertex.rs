//! Vertex AI: the port and the paths are those of its variables.

use base64::prelude::{BASE64_STANDARD, Engine};

use super::binary;
use super::life::Server;

/// A port that was free a moment ago: Vertex AI names one, so that 0 is none.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn serving(predict_route: &str) -> (Server, u16) {
    let port = free_port();
    let mut command = binary(&["serve", "--vertex-routes", "true"]);
    command.env("AIP_HTTP_PORT", port.to_string());
    command.env("AIP_HEALTH_ROUTE", "/vertex/health");
    command.env("AIP_PREDICT_ROUTE", predict_route);
    (Server::until_ready(Server::run_by(&mut command)), port)
}

fn instances() -> String {
    let root = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/images/red-circle.png"
    );
    let image = BASE64_STANDARD.encode(std::fs::read(root).unwrap());
    format!(r#"{{"instances": [{{"prompt": "cap en", "image": "{image}"}}]}}"#)
}

#[test]
fn health_and_predictions_are_where_vertex_ai_looks_for_them() {
    let (server, port) = serving("/v1/endpoints/1/deployedModels/2:predict");
    assert!(server.address().ends_with(&format!(":{port}")));
    assert_eq!(server.get("/vertex/health"), 200);
    let path = "/v1/endpoints/1/deployedModels/2:predict";
    assert_eq!(server.post(path, &instances()), 200);
    assert_eq!(server.get("/health/ready"), 200);
    server.stop();
}

#[test]
fn a_route_that_is_there_already_answers_in_its_own_way() {
    let (server, _) = serving("/v1/generate");
    // It knows no instances.
    assert_eq!(server.post("/v1/generate", &instances()), 400);
    server.stop();
}
