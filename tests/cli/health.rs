//! `health`, as a container's health check runs it.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::life::Server;
use super::{assert_tells, binary, failure, run};

#[test]
fn a_server_that_takes_requests_is_healthy() {
    let server = Server::ready(&[]);
    let url = format!("http://{}", server.address());
    let output = run(&["health", "--url", &url]);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
}

#[test]
fn the_settings_tell_health_where_to_look() {
    let server = Server::ready(&[]);
    let (_, port) = server.address().rsplit_once(':').unwrap();
    // As in a container: all interfaces, and a proxy for the internet.
    for host in ["0.0.0.0", "127.0.0.1", "localhost"] {
        let mut command = binary(&["health"]);
        let output = command
            .env("PALIGEMMA_HOST", host)
            .env("PALIGEMMA_PORT", port)
            .env("http_proxy", "http://127.0.0.1:9")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_server_that_is_not_running_is_named() {
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = run(&["health", "--url", &url]);
    assert_tells(&failure(&output, 1), &[&url, "refused"]);
    for url in ["127.0.0.1:8080", "ftp://127.0.0.1", "http://127.0.0.1/v1"] {
        let output = run(&["health", "--url", url]);
        assert_eq!(output.status.code(), Some(2));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_tells(&stderr, &[url, "http://HOST:PORT"]);
    }
}

#[test]
fn a_server_that_refuses_requests_says_why() {
    for (status, body, words) in [
        (
            "503 Service Unavailable",
            r#"{"code":"loading","detail":"the model is being loaded"}"#,
            "not ready: the model is being loaded",
        ),
        ("404 Not Found", "<html>", "404 Not Found"),
        // Another web server on that port.
        ("200 OK", "<html>", "200 OK"),
        ("302 Found\r\nlocation: /login", "", "302 Found"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .unwrap();
        });
        let output = run(&["health", "--url", &url]);
        assert_tells(&failure(&output, 1), &[words]);
        server.join().unwrap();
    }
}

#[test]
fn wrong_settings_are_a_failure_like_any_other() {
    // Docker reserves 2.
    let output = binary(&["health"]).env("PALIGEMMA_PORT", "soon").output();
    assert_tells(&failure(&output.unwrap(), 1), &["port", "soon"]);
}
