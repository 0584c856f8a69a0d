//! Requests that are wrong, each in its own way.

use rand::RngExt;
use rand::rngs::StdRng;
use reqwest::{Client, StatusCode, header};
use serde_json::Value;

use crate::mix::picture;
use crate::visit::Outcome;

/// One wrong request, and what it must be answered with.
struct Bad {
    path: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    code: &'static str,
}

/// Sends a wrong request, which must be refused by its code.
pub async fn send(rng: &mut StdRng, client: &Client, url: &str) -> Outcome {
    let bad = draw(rng);
    let request = client
        .post(format!("{url}{}", bad.path))
        .header(header::CONTENT_TYPE, bad.content_type)
        .body(bad.body);
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Outcome::Wrong(format!("{}: {error:#}", bad.code)),
    };
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Outcome::Refused;
    }
    let problem: Value = response.json().await.unwrap_or_default();
    match problem["code"] == bad.code && status.is_client_error() {
        true => Outcome::Bad,
        false => Outcome::Wrong(format!("{status} {problem} instead of {}", bad.code)),
    }
}

fn draw(rng: &mut StdRng) -> Bad {
    let json = |path, body: String, code| Bad {
        path,
        content_type: "application/json",
        body: body.into_bytes(),
        code,
    };
    match rng.random_range(0..6) {
        0 => json("/v1/caption", "{\"image\": ".to_owned(), "invalid_json"),
        1 => json("/v1/caption", "{\"image\": 7}".to_owned(), "invalid_field"),
        2 => json("/v1/nothing", "{}".to_owned(), "not_found"),
        3 => {
            let image = "data:image/png;base64,AAAA";
            json(
                "/v1/caption",
                format!("{{\"image\": \"{image}\"}}"),
                "not_an_image",
            )
        }
        4 => Bad {
            path: "/v1/caption",
            content_type: "text/plain",
            body: b"a picture, please".to_vec(),
            code: "unsupported_media_type",
        },
        _ => multipart(damaged(rng)),
    }
}

/// A picture that ends too early.
fn damaged(rng: &mut StdRng) -> Vec<u8> {
    let mut png = picture(rng.random());
    png.truncate(rng.random_range(60..png.len() / 2));
    png
}

fn multipart(file: Vec<u8>) -> Bad {
    let mut body =
        b"--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\n"
            .to_vec();
    body.extend(file);
    body.extend(b"\r\n--b--\r\n");
    Bad {
        path: "/v1/caption",
        content_type: "multipart/form-data; boundary=b",
        body,
        code: "image_corrupt",
    }
}
