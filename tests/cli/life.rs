//! The server as a process: it starts, serves, and stops on a signal.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{MODEL, binary};

/// Far longer than any of this takes; a test that reaches it has found a hang.
pub const LONG: Duration = Duration::from_secs(60);

/// A running server on its own port; killed when a test fails.
pub struct Server {
    process: Child,
    stderr: BufReader<ChildStderr>,
    address: String,
}

impl Server {
    fn start(flags: &[&str]) -> Self {
        let serve = ["serve", "--model", MODEL, "--dtype", "f32", "--port", "0"];
        Self::started(&[&serve, flags].concat())
    }

    /// Starts a server with these arguments.
    pub fn started(arguments: &[&str]) -> Self {
        Self::run_by(&mut binary(arguments))
    }

    /// A server that is ready, in a process that may have so many file descriptors.
    pub fn with_descriptors(most: usize) -> Self {
        let limited = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
        let mut command = Command::new("bash");
        command.env_clear().args(["-c", &limited]);
        command.arg(env!("CARGO_BIN_EXE_paligemma-server"));
        command.args(["serve", "--model", MODEL, "--dtype", "f32", "--port", "0"]);
        Self::until_ready(Self::run_by(&mut command))
    }

    /// A server in the process that `command` starts.
    pub fn run_by(command: &mut Command) -> Self {
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (_, address) = line.trim().split_once("://").unwrap();
        let address = address.to_owned();
        Self {
            process,
            stderr,
            address,
        }
    }

    /// The same, once it is ready.
    pub fn ready(flags: &[&str]) -> Self {
        Self::until_ready(Self::start(flags))
    }

    /// Starts a server with these arguments and waits until it is ready.
    pub fn ready_as(arguments: &[&str]) -> Self {
        Self::until_ready(Self::started(arguments))
    }

    /// The same server, once it is ready.
    pub fn until_ready(server: Self) -> Self {
        let begun = Instant::now();
        while server.get("/health/ready") != 200 {
            assert!(begun.elapsed() < LONG, "never ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request; the caller reads the response.
    pub fn send(&self, head: &str, body: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let length = body.len();
        let common = "host: localhost\r\nconnection: close\r\ncontent-type: application/json";
        write!(
            stream,
            "{head} HTTP/1.1\r\n{common}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        BufReader::new(stream)
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The status of the response to a body in JSON.
    pub fn post(&self, path: &str, body: &str) -> u16 {
        let mut line = String::new();
        self.send(&format!("POST {path}"), body)
            .read_line(&mut line)
            .unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The status of the response.
    pub fn get(&self, path: &str) -> u16 {
        let mut line = String::new();
        self.send(&format!("GET {path}"), "")
            .read_line(&mut line)
            .unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// A stream that takes seconds; its first text has been read.
    fn long_stream(&self) -> BufReader<TcpStream> {
        let body = serde_json::json!({
            "image": STANDARD.encode(picture()),
            "prompt": "caption en",
            "max_tokens": 480,
            "stream": true,
        });
        let mut answer = self.send("POST /v1/generate", &body.to_string());
        let mut line = String::new();
        while !line.starts_with("event: delta") {
            line.clear();
            assert_ne!(
                answer.read_line(&mut line).unwrap(),
                0,
                "ended before any text"
            );
        }
        answer
    }

    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.process.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Reads the log up to a line with `words`.
    pub fn wait_for_log(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(
                self.stderr.read_line(&mut line).unwrap(),
                0,
                "no {words:?} in the log"
            );
        }
    }

    /// Ends the server; the rest of its log.
    pub fn stop(mut self) -> String {
        self.signal("TERM");
        let mut log = String::new();
        self.stderr.read_to_string(&mut log).unwrap();
        log
    }

    /// The exit code, and how long the process took to exit.
    fn exit(mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return (status.code(), begun.elapsed());
            }
            assert!(begun.elapsed() < LONG, "never ended");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A small PNG.
fn picture() -> Vec<u8> {
    let image = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, 99]));
    let mut png = std::io::Cursor::new(Vec::new());
    image.write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}

fn rest(mut answer: BufReader<TcpStream>) -> String {
    let mut text = String::new();
    answer.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn requests_are_taken_for_a_while_after_readiness_is_off() {
    let mut server = Server::ready(&["--shutdown-delay", "8s"]);
    let begun = Instant::now();
    server.signal("TERM");
    server.wait_for_log("shutting down");
    assert_eq!(server.get("/health/ready"), 503);
    assert_eq!(server.get("/health/live"), 200);
    let body = serde_json::json!({
        "image": STANDARD.encode(picture()), "prompt": "caption en", "max_tokens": 2,
    });
    assert_eq!(server.post("/v1/generate", &body.to_string()), 200);
    assert_eq!(server.exit().0, Some(0));
    let lived = begun.elapsed();
    assert!(lived >= Duration::from_secs(8), "{lived:?}");
}

#[test]
fn an_idle_server_ends_quickly_with_code_0_on_either_signal() {
    for signal in ["TERM", "INT"] {
        let server = Server::ready(&[]);
        server.signal(signal);
        let (code, took) = server.exit();
        assert_eq!(code, Some(0), "SIG{signal}");
        assert!(took < Duration::from_secs(15), "SIG{signal} took {took:?}");
    }
}

#[test]
fn running_requests_finish_within_the_grace_while_readiness_is_off() {
    let mut server = Server::ready(&["--shutdown-grace", "60s"]);
    let stream = server.long_stream();
    server.signal("TERM");
    server.wait_for_log("shutting down");
    assert_eq!(server.get("/health/ready"), 503);
    let rest = rest(stream);
    assert!(
        rest.contains("event: done") && !rest.contains("event: error"),
        "{rest}"
    );
    assert_eq!(server.exit().0, Some(0));
}

#[test]
fn requests_that_outlast_the_grace_fail_and_the_server_ends_with_code_0() {
    let server = Server::ready(&["--shutdown-grace", "0s"]);
    let stream = server.long_stream();
    server.signal("TERM");
    let rest = rest(stream);
    assert!(
        rest.contains("event: error") && !rest.contains("event: done"),
        "{rest}"
    );
    assert_eq!(server.exit().0, Some(0));
}

#[test]
fn a_second_signal_ends_the_server_at_once_with_code_1() {
    let mut server = Server::ready(&["--shutdown-grace", "60s"]);
    let _stream = server.long_stream();
    server.signal("TERM");
    server.wait_for_log("shutting down");
    server.signal("INT");
    let (code, took) = server.exit();
    assert_eq!(code, Some(1));
    assert!(took < Duration::from_secs(20), "took {took:?}");
}

#[test]
fn a_model_that_has_failed_for_good_ends_the_server_with_code_3() {
    let mut server = Server::ready(&["--step-timeout", "100ms"]);
    let body = serde_json::json!({
        "image": STANDARD.encode(picture()),
        "prompt": "caption en",
        "max_tokens": 480,
    });
    let body = body.to_string();
    let send = |_| server.send("POST /v1/generate", &body);
    let _answers: Vec<_> = (0..64).map(send).collect();
    // A process that is stopped in a step hangs there. It may also be between two steps, but not often.
    let begun = Instant::now();
    while server.process.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < LONG, "never ended");
        server.signal("STOP");
        std::thread::sleep(Duration::from_millis(150));
        server.signal("CONT");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.exit().0, Some(3));
}

#[test]
fn ask_answers_on_stdout_and_times_on_stderr() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("picture.png");
    std::fs::write(&image, picture()).unwrap();
    let ask = |extra: &[&str]| {
        let arguments = [
            "ask",
            "--model",
            MODEL,
            "--dtype",
            "f32",
            "--log-level",
            "off",
            "--image",
        ];
        let mut command = binary(&arguments);
        command
            .arg(&image)
            .arg("caption en")
            .args(extra)
            .output()
            .unwrap()
    };
    let (long, short) = (
        ask(&["--max-tokens-default", "9"]),
        ask(&["--max-tokens-default", "3"]),
    );
    for (output, tokens) in [(&long, "9 tokens; "), (&short, "3 tokens; ")] {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        // The times, and the mark of a cut answer.
        assert!(
            stderr.starts_with(tokens) && stderr.lines().count() == 2,
            "{stderr}"
        );
        assert!(output.stdout.len() > 1 && output.stdout.ends_with(b"\n"));
    }
    assert!(long.stdout.len() > short.stdout.len());
}

#[test]
fn ask_names_a_file_that_is_missing_or_not_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("picture.png");
    std::fs::write(&image, "not a picture").unwrap();
    for (path, word) in [
        ("/nowhere.jpg", "No such file"),
        (image.to_str().unwrap(), "image"),
    ] {
        let output = super::run(&["ask", "--model", MODEL, "--image", path, "caption en"]);
        super::assert_tells(&super::failure(&output, 1), &[path, word]);
    }
    std::fs::copy(
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/examples/images/red-circle.png"
        ),
        &image,
    )
    .unwrap();
    for (draw, code, words) in [
        ("/nowhere/drawn.png", 1, "does not exist"),
        ("drawn", 2, "such as .png"),
        (image.to_str().unwrap(), 2, "the input picture"),
    ] {
        let image = image.to_str().unwrap();
        let ask = ["ask", "--image", image, "detect cat", "--draw", draw];
        super::assert_tells(&super::failure(&super::run(&ask), code), &[draw, words]);
    }
    // Before looking for the model.
    let (model, path) = ("./nowhere", "/nowhere.jpg");
    let output = super::run(&["ask", "--model", model, "--image", path, "caption en"]);
    super::assert_tells(&super::failure(&output, 1), &[path, "No such file"]);
}

#[cfg(target_os = "linux")]
#[test]
fn the_model_computes_on_as_many_threads_as_are_set() {
    let count = |threads: &str| {
        let server = Server::ready(&["--threads", threads]);
        let tasks = format!("/proc/{}/task", server.process.id());
        std::fs::read_dir(tasks).unwrap().count()
    };
    // Four of rayon's, and one or two others that come and go.
    let (few, more) = (count("1"), count("5"));
    assert!(more >= few + 3, "{few} threads of the process, then {more}");
}
