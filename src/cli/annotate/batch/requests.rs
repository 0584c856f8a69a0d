//! The requests of a batch file. Their bodies stay in the file until they are sent.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

/// Routes that a batch may ask.
const ROUTES: [&str; 9] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/caption",
    "/v1/vqa",
    "/v1/question",
    "/v1/ocr",
    "/v1/detect",
    "/v1/segment",
    "/v1/generate",
];

/// A request, and where its line is.
pub struct Request {
    pub custom_id: String,
    /// Its route.
    pub url: String,
    file: Arc<File>,
    offset: u64,
    length: usize,
}

/// What is checked of a line before anything is sent.
#[derive(Deserialize)]
struct Line {
    custom_id: String,
    method: String,
    url: String,
    body: Checked,
}

#[derive(Deserialize)]
struct Checked {
    stream: Option<bool>,
}

#[derive(Deserialize)]
struct Whole {
    body: Value,
}

impl Request {
    /// The body, read from the file.
    ///
    /// # Errors
    /// When the file can't be read, or has changed.
    pub fn body(&self) -> io::Result<Vec<u8>> {
        let mut line = vec![0; self.length];
        self.file.read_exact_at(&mut line, self.offset)?;
        let line: Whole = serde_json::from_slice(&line)?;
        Ok(serde_json::to_vec(&line.body)?)
    }
}

/// All requests of a file.
///
/// # Errors
/// When it can't be read, or a line is no request that can be sent; the error names the line.
pub fn requests(path: &Path) -> anyhow::Result<Vec<Request>> {
    let file = Arc::new(File::open(path)?);
    let mut lines = BufReader::new(&*file);
    let (mut requests, mut known) = (Vec::new(), HashSet::new());
    let (mut offset, mut line, mut number) = (0, Vec::new(), 0);
    while lines.read_until(b'\n', &mut line)? > 0 {
        number += 1;
        if !line.trim_ascii().is_empty() {
            let Line { custom_id, url, .. } =
                checked(&line).with_context(|| format!("line {number}"))?;
            if !known.insert(custom_id.clone()) {
                bail!("line {number}: the custom_id {custom_id:?} is that of an earlier line");
            }
            requests.push(Request {
                custom_id,
                url,
                file: Arc::clone(&file),
                offset,
                length: line.len(),
            });
        }
        offset += line.len() as u64;
        line.clear();
    }
    ensure!(!requests.is_empty(), "there are no requests in it");
    Ok(requests)
}

fn checked(line: &[u8]) -> anyhow::Result<Line> {
    let line: Line = serde_json::from_slice(line)?;
    ensure!(
        line.method == "POST",
        "its method is {:?}; allowed is POST",
        line.method
    );
    ensure!(
        ROUTES.contains(&line.url.as_str()),
        "its url is {:?}; allowed are {}",
        line.url,
        ROUTES.join(", ")
    );
    ensure!(
        line.body.stream != Some(true),
        "its body asks for a stream, which is not for batches"
    );
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Vec<Request>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("in.jsonl");
        std::fs::write(&path, text)?;
        requests(&path)
    }

    fn line(custom_id: &str, more: &str) -> String {
        format!(
            r#"{{"custom_id":"{custom_id}","method":"POST","url":"/v1/caption","body":{{"image":"x"}}{more}}}"#
        )
    }

    #[test]
    fn bodies_are_read_when_they_are_needed() {
        let read = read(&format!("{}\n\n{}", line("a", ""), line("b", r#","x":1"#)));
        let read = read.unwrap();
        let ids: Vec<_> = read.iter().map(|it| it.custom_id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(read[1].body().unwrap(), br#"{"image":"x"}"#);
    }

    #[test]
    fn a_line_that_can_not_be_sent_is_named() {
        let first = line("a", "");
        for (second, words) in [
            (first.clone(), "line 2: the custom_id \"a\""),
            (first.replace("POST", "GET"), "allowed is POST"),
            (
                first.replace("/v1/caption", "/v1/embeddings"),
                "allowed are /v1/chat",
            ),
            (
                line("b", "").replace("\"x\"", "1,\"stream\":true"),
                "a stream",
            ),
            ("{".to_owned(), "line 2: EOF"),
            (first.replace("custom_id", "id"), "custom_id"),
        ] {
            let error = read(&format!("{first}\n{second}\n")).err().unwrap();
            let error = format!("{error:#}");
            assert!(error.contains("line 2") && error.contains(words), "{error}");
        }
        assert!(read("\n").is_err());
    }
}
