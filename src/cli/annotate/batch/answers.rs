//! The output of a batch, in OpenAI's form: one answer per line.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::super::line_file::LineFile;
use super::super::progress::Outcome;
use super::super::replicas::Reply;

/// The start of every line.
const START: &[u8] = br#"{"id":"#;

/// One line.
#[derive(Serialize)]
pub struct Answer {
    id: String,
    custom_id: String,
    response: Response,
    /// What OpenAI says of a request that was never sent; here such a request has no line.
    error: Option<Value>,
}

#[derive(Serialize)]
struct Response {
    status_code: u16,
    request_id: String,
    body: Value,
}

/// What is read again of a line.
#[derive(Deserialize)]
struct Known {
    custom_id: String,
    response: KnownResponse,
}

#[derive(Deserialize)]
struct KnownResponse {
    status_code: u16,
}

impl Answer {
    pub fn new(custom_id: &str, reply: &Reply) -> Self {
        let body = serde_json::from_slice(&reply.body);
        let text = || Value::from(String::from_utf8_lossy(&reply.body));
        Self {
            id: format!("batch_req_{}", Uuid::new_v4().simple()),
            custom_id: custom_id.to_owned(),
            response: Response {
                status_code: reply.status.as_u16(),
                request_id: reply.request_id.clone().unwrap_or_default(),
                body: body.unwrap_or_else(|_| text()),
            },
            error: None,
        }
    }

    pub fn outcome(&self) -> Outcome {
        match is_success(self.response.status_code) {
            true => Outcome::Labelled,
            false => Outcome::Failed,
        }
    }
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// The file that answers are appended to.
pub struct Answers {
    lines: LineFile,
    /// Requests that have an answer, and whether it is an error.
    done: HashMap<String, bool>,
}

impl Answers {
    /// Opens or creates the file. Removes an incomplete last line, so that its request is sent again.
    ///
    /// # Errors
    /// When it can't be written, or doesn't hold answers. The file is then left unchanged.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let mut lines = LineFile::open(path)?;
        let mut done = HashMap::new();
        lines.resume(START, |known: Vec<Known>| {
            let known = known.into_iter();
            done.extend(known.map(|it| (it.custom_id, !is_success(it.response.status_code))));
            Ok(())
        })?;
        Ok(Self { lines, done })
    }

    pub fn has(&self, custom_id: &str) -> bool {
        self.done.contains_key(custom_id)
    }

    pub fn has_error(&self, custom_id: &str) -> bool {
        self.done.get(custom_id) == Some(&true)
    }

    pub fn write(&mut self, answer: &Answer) -> anyhow::Result<()> {
        self.lines.append(answer)
    }
}
