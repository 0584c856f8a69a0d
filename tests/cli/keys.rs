//! Keys in a file, and their limits.

use std::time::Instant;

use super::life::{LONG, Server};
use super::{assert_tells, binary, failure};

/// The SHA-256 of `first` and of `second`.
const FIRST: &str = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e";
const SECOND: &str = "16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4";

impl Server {
    fn with_key(&self, header: &str) -> u16 {
        let answer = self.last_words(&format!(
            "GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n\r\n"
        ));
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

#[test]
fn a_file_of_keys_is_read_again_on_sighup_and_a_bad_one_changes_nothing() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(file.path(), text).unwrap();
    write(&format!("alice {FIRST}\n"));
    let path = file.path().to_str().unwrap();
    let mut server = Server::ready(&["--api-key-file", path]);
    assert_eq!(server.with_key("authorization: Bearer first"), 200);
    assert_eq!(server.with_key("x-api-key: first"), 200);
    assert_eq!(server.with_key("x-api-key: second"), 401);
    assert_eq!(server.with_key("a: b"), 401);
    write("nonsense");
    server.signal("HUP");
    server.wait_for_log("line 1: it has not two words");
    assert_eq!(server.with_key("x-api-key: first"), 200);
    write(&format!("bob {SECOND} # alice has left\n"));
    server.signal("HUP");
    server.wait_for_log("read again");
    assert_eq!(server.with_key("x-api-key: first"), 401);
    assert_eq!(server.with_key("x-api-key: second"), 200);
    let metrics =
        server.last_words("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let series = r#"paligemma_key_requests_total{key="alice",outcome="taken"} 3"#;
    assert_tells(&metrics, &[series, r#"{key="bob",outcome="taken"} 1"#]);
}

#[test]
fn a_key_that_has_used_its_requests_up_waits_and_others_do_not() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("alice {FIRST}\nbob {SECOND}\n")).unwrap();
    let path = file.path().to_str().unwrap();
    let server = Server::ready(&["--api-key-file", path, "--key-rate", "3"]);
    let begun = Instant::now();
    while server.with_key("x-api-key: first") != 429 {
        assert!(begun.elapsed() < LONG, "never refused");
    }
    assert_eq!(server.with_key("x-api-key: second"), 200);
}

#[test]
fn pages_that_need_a_key_are_closed_without_one() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("alice {FIRST}\n")).unwrap();
    let path = file.path().to_str().unwrap();
    let server = Server::ready(&["--api-key-file", path, "--keyed-pages", "metrics,docs"]);
    for page in [
        "/metrics",
        "/docs",
        "/docs/",
        "/openapi.yaml",
        "/openapi.json",
    ] {
        assert_eq!(server.get(page), 401, "{page}");
        let head = format!("GET {page} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        let answer = server.last_words(&format!("{head}x-api-key: first\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{page}: {answer}");
    }
    for page in ["/", "/health/ready", "/health/live"] {
        assert_eq!(server.get(page), 200, "{page}");
    }
    assert_eq!(server.get("/nowhere"), 404);
}

#[test]
fn a_file_of_keys_that_can_not_be_used_ends_the_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "alice hunter2\n").unwrap();
    let path = file.path().to_str().unwrap();
    let arguments = [
        "serve",
        "--port",
        "0",
        "--log-level",
        "off",
        "--api-key-file",
        path,
    ];
    let output = binary(&arguments).output().unwrap();
    let message = failure(&output, 2);
    assert_tells(&message, &["api_key_file", "line 1", "no SHA-256"]);
    assert!(!message.contains("hunter2"), "{message}");
}
