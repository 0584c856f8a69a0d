//! Connections that are many, silent, or slow to take their answers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::assert_tells;
use super::life::{LONG, Server};

impl Server {
    /// A connection on which nothing was said yet.
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    /// All that comes after `request` until the server ends the connection.
    pub fn last_words(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut words = String::new();
        stream.read_to_string(&mut words).unwrap();
        words
    }

    /// How many connections the server says that it has, this one included.
    fn connections(&self) -> usize {
        self.metric("paligemma_http_connections ")
    }

    /// The value of the metric whose line begins so.
    fn metric(&self, start: &str) -> usize {
        let metrics =
            self.last_words("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let value = metrics.lines().find_map(|line| line.strip_prefix(start));
        value.unwrap().parse().unwrap()
    }

    /// Waits until it has no more than this one.
    fn wait_until_alone(&self) {
        let begun = Instant::now();
        while self.connections() > 1 {
            assert!(begun.elapsed() < LONG, "the connection stays");
        }
    }
}

#[test]
fn more_silent_sockets_than_descriptors_keep_no_health_check_out() {
    let server = Server::with_descriptors(256);
    let silent: Vec<_> = (0..300).map(|_| server.connect()).collect();
    for _ in 0..3 {
        assert_eq!(server.get("/health/live"), 200);
    }
    assert!(server.connections() > 100);
    drop(silent);
}

#[test]
fn while_all_connections_have_requests_others_get_health_checks_alone() {
    let server = Server::ready(&["--max-connections", "2"]);
    let upload = "POST /v1/caption HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n";
    let mut uploads: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for stream in &mut uploads {
        stream.write_all(upload.as_bytes()).unwrap();
        // Now the server has begun to read the body.
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let refused = server.last_words("GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n");
    let parts = [
        "HTTP/1.1 503",
        "too_many_connections",
        "connection: close",
        "retry-after: ",
    ];
    assert_tells(&refused, &parts);
    assert_eq!(server.get("/health/live"), 200);
    assert_eq!(server.get("/health/ready"), 200);
    uploads[0].write_all(b"{\"a\": 1 }").unwrap();
    let mut answer = [0; 12];
    uploads[0].read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
}

#[test]
fn a_connection_that_says_nothing_is_closed_before_and_after_a_request() {
    let server = Server::ready(&["--idle-timeout", "300ms"]);
    assert_eq!(server.last_words(""), "");
    assert_eq!(server.last_words("GET /health/live HT"), "");
    let answered = server.last_words("GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_tells(&answered, &["HTTP/1.1 200", "live"]);
    server.wait_until_alone();
}

#[test]
fn what_is_no_request_gets_a_problem_document_too() {
    let server = Server::ready(&[]);
    let long = "x".repeat(100_000);
    for (request, status, code) in [
        ("nonsense\r\n\r\n".to_owned(), 400, "malformed_request"),
        (
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: b\r\n\r\n".to_owned(),
            400,
            "malformed_request",
        ),
        (
            format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n"),
            414,
            "uri_too_long",
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nhost: a\r\n{}\r\n",
                "a: b\r\n".repeat(200)
            ),
            431,
            "headers_too_large",
        ),
    ] {
        let answer = server.last_words(&request);
        let parts = [
            &format!("HTTP/1.1 {status} "),
            "x-request-id: ",
            "application/problem+json",
            &format!("\"code\":\"{code}\""),
        ];
        assert_tells(&answer, &parts);
    }
    let compressed = "POST /v1/caption HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n";
    assert_tells(
        &server.last_words(compressed),
        &["HTTP/1.1 415", "unsupported_media_type", "`gzip`"],
    );
}

#[test]
fn a_body_that_comes_too_slowly_is_refused_long_before_its_timeout() {
    let server = Server::ready(&["--upload-timeout", "60s"]);
    let answer = server.last_words(
        "POST /v1/caption HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"image\":",
    );
    let parts = [
        "HTTP/1.1 408",
        "request_timeout",
        "more slowly than 10000 bytes a second",
    ];
    assert_tells(&answer, &parts);
}

#[test]
fn a_client_that_takes_nothing_of_its_answers_is_cut() {
    const CUT: &str = "paligemma_http_stalled_readers_total ";
    let server = Server::ready(&["--write-timeout", "500ms"]);
    assert_eq!(server.metric(CUT), 0);
    let mut stream = server.connect();
    let requests = "GET /openapi.yaml HTTP/1.1\r\nhost: x\r\n\r\n".repeat(500);
    // The server stops to read when it can't write, so not all of it need fit.
    stream.set_nonblocking(true).unwrap();
    let _ = stream.write(requests.as_bytes());
    assert_eq!(server.connections(), 2);
    server.wait_until_alone();
    assert_eq!(server.metric(CUT), 1);
}
