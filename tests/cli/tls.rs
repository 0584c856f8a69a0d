//! HTTPS, seen from outside.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use paligemma_server::http_client;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::life::{LONG, Server};
use super::{assert_tells, binary, failure};

/// A certificate for `localhost` that vouches for itself, in `folder`; gives its text.
fn new_certificate(folder: &Path) -> String {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.pem()
}

fn flags(folder: &Path) -> [String; 4] {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    [
        "--tls-cert".to_owned(),
        path("cert.pem"),
        "--tls-key".to_owned(),
        path("key.pem"),
    ]
}

impl Server {
    /// The status of a path, asked by a client that trusts only `certificate`.
    fn https(&self, certificate: &str, path: &str) -> Option<u16> {
        let port = self.address().rsplit_once(':').unwrap().1;
        let url = format!("https://localhost:{port}{path}");
        let trusted = reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap();
        let client = http_client::builder()
            .tls_certs_only([trusted])
            .no_proxy()
            .build()
            .unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let answer = runtime.block_on(client.get(url).send()).ok()?;
        Some(answer.status().as_u16())
    }

    fn until_ready_by_https(self, certificate: &str) -> Self {
        let begun = Instant::now();
        while self.https(certificate, "/health/ready") != Some(200) {
            assert!(begun.elapsed() < LONG, "never ready");
        }
        self
    }
}

/// A ready server with the certificate in `folder`.
fn server(folder: &TempDir, certificate: &str) -> Server {
    let flags = flags(folder.path());
    let serve = ["serve", "--port", "0", "--dtype", "f32"];
    let flags: Vec<&str> = serve
        .into_iter()
        .chain(flags.iter().map(String::as_str))
        .collect();
    Server::started(&flags).until_ready_by_https(certificate)
}

#[test]
fn with_a_certificate_the_server_speaks_https_and_no_http() {
    let folder = TempDir::new().unwrap();
    let certificate = new_certificate(folder.path());
    let server = server(&folder, &certificate);
    assert_eq!(server.https(&certificate, "/v1/models"), Some(200));

    let mut plain = TcpStream::connect(server.address()).unwrap();
    plain
        .write_all(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).unwrap();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    // `health` knows from the settings that it has to ask by https.
    let port = server.address().rsplit_once(':').unwrap().1;
    let settings = folder.path().join("server.toml");
    let [_, cert, _, key] = flags(folder.path());
    let text = format!("port = {port}\ntls_cert = {cert:?}\ntls_key = {key:?}\n");
    fs::write(&settings, text).unwrap();
    let health = binary(&["health", "--config", settings.to_str().unwrap()]).output();
    assert!(health.unwrap().status.success());
}

#[test]
fn a_new_certificate_is_read_on_sighup_and_a_damaged_one_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let first = new_certificate(folder.path());
    let mut server = server(&folder, &first);
    fs::write(folder.path().join("cert.pem"), "nonsense").unwrap();
    server.signal("HUP");
    server.wait_for_log("the certificate stays as it is");
    assert_eq!(server.https(&first, "/health/live"), Some(200));
    let second = new_certificate(folder.path());
    server.signal("HUP");
    server.wait_for_log("the certificate was read again");
    assert_eq!(server.https(&second, "/health/live"), Some(200));
    assert_eq!(server.https(&first, "/health/live"), None);
}

#[test]
fn a_client_that_does_not_shake_hands_is_cut() {
    let folder = TempDir::new().unwrap();
    let certificate = new_certificate(folder.path());
    let flags = flags(folder.path());
    let serve = [
        "serve",
        "--port",
        "0",
        "--dtype",
        "f32",
        "--idle-timeout",
        "300ms",
    ];
    let flags: Vec<&str> = serve
        .into_iter()
        .chain(flags.iter().map(String::as_str))
        .collect();
    let server = Server::started(&flags).until_ready_by_https(&certificate);
    let mut silent = TcpStream::connect(server.address()).unwrap();
    silent.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_certificate_that_can_not_be_used_ends_the_start() {
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    new_certificate(folder.path());
    new_certificate(other.path());
    let path = |folder: &TempDir, name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (cert, key) = (path(&folder, "cert.pem"), path(&folder, "key.pem"));
    let (strange, nowhere) = (path(&other, "key.pem"), path(&other, "nowhere.pem"));
    for (flags, words) in [
        (
            vec!["--tls-cert", &cert],
            vec!["tls_cert is set, and tls_key is not"],
        ),
        (
            vec!["--tls-cert", &nowhere, "--tls-key", &key],
            vec!["tls_cert", "nowhere.pem"],
        ),
        (
            vec!["--tls-cert", &key, "--tls-key", &key],
            vec!["tls_cert", "no certificate in PEM"],
        ),
        (
            vec!["--tls-cert", &cert, "--tls-key", &strange],
            vec!["can't be used"],
        ),
    ] {
        let serve = ["serve", "--port", "0", "--log-level", "off"];
        let output = binary(&[&serve, flags.as_slice()].concat()).output();
        let error = failure(&output.unwrap(), 2);
        assert_tells(&error, &words);
    }
}
