//! What clients ask for.

use std::io::Cursor;

use anyhow::{Context, Result};
use image::{ImageFormat, Rgb, RgbImage};
use reqwest::Client;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

/// One request of the mix.
pub struct Ask {
    pub route: &'static str,
    pub body: Value,
    /// A PNG, sent as multipart instead of inside the JSON.
    pub file: Option<Vec<u8>>,
}

/// Every route, JSON and multipart, one and several images and questions, greedy and seeded, to the model and to
/// each of its adapters, which are given as NAME=FOLDER.
pub fn mix(adapters: &[String]) -> Vec<Ask> {
    let names = adapters.iter().filter_map(|it| it.split_once('='));
    let of_adapters = names.flat_map(|(name, _)| {
        let mut asks = asks();
        for ask in &mut asks {
            ask.body["model"] = json!(name);
        }
        asks
    });
    asks().into_iter().chain(of_adapters).collect()
}

fn asks() -> Vec<Ask> {
    use base64::Engine;
    let encode = |png: &[u8]| base64::engine::general_purpose::STANDARD.encode(png);
    let mut asks = Vec::new();
    for index in 0..6u8 {
        let png = picture(index);
        let image = encode(&png);
        let other = encode(&picture(index + 100));
        asks.push(Ask {
            route: "/v1/caption",
            body: json!({"length": "short", "max_tokens": 12}),
            file: Some(png),
        });
        asks.push(Ask {
            route: "/v1/caption",
            body: json!({"images": [image, other], "max_tokens": 8 + index}),
            file: None,
        });
        asks.push(Ask {
            route: "/v1/vqa",
            body: json!({
                "image": image, "questions": ["how many?", "what colour is the largest shape in it?"],
                "max_tokens": 10,
            }),
            file: None,
        });
        asks.push(Ask {
            route: "/v1/generate",
            body: json!({
                "image": image, "prompt": "é 你好 <loc0100>", "max_tokens": 24,
                "temperature": 0.7, "seed": index, "top_k": 40,
            }),
            file: None,
        });
    }
    asks
}

/// A PNG.
pub fn picture(index: u8) -> Vec<u8> {
    let image = RgbImage::from_fn(90 + u32::from(index), 70, |x, y| {
        Rgb([
            x as u8 ^ index,
            (y as u8).wrapping_mul(index),
            (x + y) as u8,
        ])
    });
    let mut png = Cursor::new(Vec::new());
    image
        .write_to(&mut png, ImageFormat::Png)
        .expect("a picture in memory can be written");
    png.into_inner()
}

impl Ask {
    pub async fn send(
        &self,
        client: &Client,
        url: &str,
        stream: bool,
    ) -> reqwest::Result<reqwest::Response> {
        let request = client.post(format!("{url}{}", self.route));
        let Some(file) = &self.file else {
            let mut body = self.body.clone();
            body["stream"] = json!(stream);
            return request.json(&body).send().await;
        };
        let mut form = Form::new()
            .part("image", Part::bytes(file.clone()).file_name("picture.png"))
            .text("stream", stream.to_string());
        for (name, value) in self.body.as_object().into_iter().flatten() {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            form = form.text(name.clone(), text);
        }
        request.multipart(form).send().await
    }
}

/// The texts of a whole answer, in order.
pub fn answers(response: &Value) -> Result<Vec<String>> {
    let results = response["results"].as_array().context("no results")?;
    results
        .iter()
        .map(|result| {
            let text = ["caption", "answer", "text"]
                .iter()
                .find_map(|field| result[field].as_str());
            text.map(str::to_owned)
                .with_context(|| format!("no text in {result}"))
        })
        .collect()
}
