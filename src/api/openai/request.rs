//! What both of OpenAI's routes read of a request.
//!
//! Fields that are not known are ignored, as OpenAI's clients send many that mean nothing here.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::api::error::{ApiError, ErrorCode};
use crate::api::extract::body::{Arrival, Common, json_bytes, receive};
use crate::api::extract::field_error::read;
use crate::api::extract::field_names::field_names;
use crate::api::extract::image_source::ImageSource;
use crate::api::extract::json::{Entries, Json};
use crate::api::extract::json_body::read_entries;
use crate::api::extract::options::{Options, Stop};
use crate::api::state::AppState;
use crate::telemetry::traces::RequestTrace;

/// Fields that both routes take. Others are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SharedFields {
    /// A name of the model, or that of an adapter; absent: the model.
    #[schema(example = "demo")]
    pub model: Option<String>,
    /// How many tokens may be generated.
    #[schema(minimum = 1, example = 64)]
    max_tokens: Option<i64>,
    /// 0 (the default here): always the likeliest token.
    #[schema(minimum = 0, maximum = 2, default = 0.0)]
    temperature: Option<f64>,
    #[schema(exclusive_minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// The same seed gives the same text.
    seed: Option<i64>,
    /// One text or several; the answer ends before the first of them.
    #[schema(value_type = Option<Vec<String>>)]
    stop: Option<Stop>,
    /// Answer in `text/event-stream`.
    #[schema(default = false)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// One answer is all that can be had.
    #[schema(minimum = 1, maximum = 1)]
    n: Option<i64>,
}

/// How a stream is written.
#[derive(Debug, Deserialize, ToSchema)]
pub struct StreamOptions {
    /// Whether a last chunk tells the usage.
    include_usage: Option<bool>,
}

impl SharedFields {
    pub fn include_usage(&self) -> bool {
        let options = self.stream_options.as_ref();
        options
            .and_then(|options| options.include_usage)
            .unwrap_or(false)
    }

    /// The native routes' options; `max_tokens` and `logprobs` come from the route's own fields.
    fn options(self, max_tokens: Option<i64>, logprobs: Option<i64>) -> Options {
        Options {
            model: self.model,
            max_tokens: max_tokens.or(self.max_tokens),
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: None,
            seed: self.seed.map(i64::cast_unsigned),
            stop: self.stop,
            logprobs,
            stream: self.stream,
            queue_position: None,
            timeout: None,
        }
    }

    /// Whether one answer is asked for.
    fn check(&self) -> Result<(), ApiError> {
        match self.n {
            None | Some(1) => Ok(()),
            Some(n) => Err(ApiError::out_of_range("n", n, "1")),
        }
    }
}

/// A request of a client of OpenAI's API.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct OpenAiJson<T> {
    #[serde(flatten)]
    pub task: T,
    #[serde(flatten)]
    pub shared: SharedFields,
}

/// A request as a route's fields, with the fields that both routes take.
#[derive(Debug)]
pub struct OpenAiRequest<T> {
    pub fields: T,
    pub shared: SharedFields,
    arrival: Arrival,
}

impl<T: DeserializeOwned> FromRequest<AppState> for OpenAiRequest<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let reading = async |request| json_bytes(request, state).await;
        let (arrival, body) = receive(request, state, reading).await?;
        Self::read(arrival, &body)
    }
}

impl<T: DeserializeOwned> OpenAiRequest<T> {
    /// What a body says.
    ///
    /// # Errors
    /// JSON that is none, fields that are missing or of a wrong type, more than one answer.
    pub fn read(arrival: Arrival, body: &Bytes) -> Result<Self, ApiError> {
        let entries = last_of_each(read_entries(body)?);
        let names = field_names::<SharedFields>();
        let (shared, own): (Entries, Entries) = entries
            .into_iter()
            .partition(|(name, _)| names.contains(&name.as_ref()));
        let shared: SharedFields = read(Json::Object(shared))?;
        shared.check()?;
        if let Some(model) = &shared.model {
            RequestTrace::current().asks_for(model);
        }
        Ok(Self {
            fields: read(Json::Object(own))?,
            shared,
            arrival,
        })
    }
}

/// As most JSON parsers do: of fields of the same name, the last counts.
fn last_of_each(mut entries: Entries<'_>) -> Entries<'_> {
    let mut kept: Entries<'_> = Vec::new();
    while let Some((name, value)) = entries.pop() {
        if !kept.iter().any(|(later, _)| *later == name) {
            kept.push((name, value));
        }
    }
    kept
}

impl<T> OpenAiRequest<T> {
    /// The same as a native route's request about one image.
    pub fn common(
        self,
        image: ImageSource,
        max_tokens: Option<i64>,
        logprobs: Option<i64>,
    ) -> Common {
        Common {
            images: vec![image],
            options: self.shared.options(max_tokens, logprobs),
            arrival: self.arrival,
        }
    }
}

/// The refusal of a request without a picture.
pub fn image_required(param: &str, how: &str) -> ApiError {
    let detail = format!("an image is required, as PaliGemma answers about images only: {how}");
    ApiError::new(ErrorCode::MissingField, detail).param(param)
}
