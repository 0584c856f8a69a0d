//! What HTTP adds: a real server on loopback whose model answers at once.

use std::path::Path;
use std::sync::LazyLock;

use divan::Bencher;
use paligemma_test_support::server::Server;
use reqwest::multipart::{Form, Part};
use serde_json::json;
use tokio::runtime::Runtime;

pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

static SERVER: LazyLock<Server> =
    LazyLock::new(|| RUNTIME.block_on(Server::scripted(&[("caption en", "a red circle")])));

fn image() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/images");
    std::fs::read(folder.join("red-circle.png")).unwrap()
}

/// The least that a request costs, of which the client's share is the larger.
#[divan::bench]
fn health(bencher: Bencher) {
    let server = &*SERVER;
    bencher.bench(|| {
        RUNTIME.block_on(async {
            let response = server.get("/health/live").send().await.unwrap();
            response.error_for_status().unwrap().bytes().await.unwrap()
        })
    });
}

#[divan::bench]
fn caption_multipart(bencher: Bencher) {
    let (server, image) = (&*SERVER, image());
    bencher.bench(|| {
        RUNTIME.block_on(async {
            let part = Part::bytes(image.clone()).file_name("image.png");
            let form = Form::new().part("image", part);
            let response = server
                .post("/v1/caption")
                .multipart(form)
                .send()
                .await
                .unwrap();
            response.error_for_status().unwrap().bytes().await.unwrap()
        })
    });
}

#[divan::bench]
fn caption_json(bencher: Bencher) {
    use base64::Engine;
    let server = &*SERVER;
    let body = json!({"image": base64::engine::general_purpose::STANDARD.encode(image())});
    bencher.bench(|| {
        RUNTIME.block_on(async {
            let response = server.post("/v1/caption").json(&body).send().await.unwrap();
            response.error_for_status().unwrap().bytes().await.unwrap()
        })
    });
}
