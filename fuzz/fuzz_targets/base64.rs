//! Images as text: base64 and `data:` URLs. The first byte chooses what the rest is.
//!
//! - A text that is sent as it is: the service takes it, or says what is wrong with it.
//! - A file, which the target encodes in one of the usual ways: the answer is the same as to the file in a
//!   form, so nothing is lost or changed on the way.

#![no_main]

use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, Engine};
use libfuzzer_sys::fuzz_target;
use paligemma_fuzz::service::post;
use serde_json::json;

const ROUTE: &str = "/v1/caption";

fn send(image: &str) -> (u16, Option<String>) {
    let body = json!({"image": image, "max_tokens": 1}).to_string();
    post(ROUTE, "application/json", body.into_bytes())
}

fn send_file(file: &[u8]) -> (u16, Option<String>) {
    let head: &[u8] = b"--b\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\n";
    let last =
        "\r\n--b\r\nContent-Disposition: form-data; name=\"max_tokens\"\r\n\r\n1\r\n--b--\r\n";
    let form = [head, file, last.as_bytes()].concat();
    post(ROUTE, "multipart/form-data; boundary=b", form)
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, file)) = data.split_first() else {
        return;
    };
    let standard = || BASE64_STANDARD.encode(file);
    let text = match choice % 6 {
        0 => standard(),
        1 => BASE64_STANDARD_NO_PAD.encode(file),
        2 => BASE64_URL_SAFE.encode(file),
        3 => standard().replace('A', "A\r\n"),
        4 => format!("data:image/png;base64,{}", standard()),
        _ => {
            send(&String::from_utf8_lossy(file));
            return;
        }
    };
    // The form's boundary would end the file.
    if !file.windows(5).any(|bytes| bytes == b"\r\n--b") {
        assert_eq!(send(&text), send_file(file));
    }
});
