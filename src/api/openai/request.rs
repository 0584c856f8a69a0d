//! What both of OpenAI's routes read of a request.
//!
//! Fields that are not known are ignored, as OpenAI's clients send many that mean nothing here.

use axum::extract::{FromRequest, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::AppState;
use super::super::body::{Arrival, Common, read_json_object, receive};
use super::super::error::{ApiError, ErrorCode};
use super::super::image_source::ImageSource;
use super::super::options::Options;

/// Fields that both routes take. Others are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SharedFields {
    /// A name of the model; absent: whatever is served.
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
    stop: Option<Value>,
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

    /// The same as the native routes' options; `max_tokens` and `logprobs` are what the route's own
    /// fields say.
    fn options(&self, max_tokens: Option<i64>, logprobs: Option<i64>) -> Result<Options, ApiError> {
        let max_tokens = max_tokens.or(self.max_tokens);
        let fields = serde_json::json!({
            "max_tokens": max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed.map(i64::cast_unsigned),
            "stop": self.stop,
            "stream": self.stream,
            "logprobs": logprobs,
        });
        read(fields)
    }

    /// Whether the model that is served is the one that was asked for.
    fn check(&self, state: &AppState) -> Result<(), ApiError> {
        if let Some(model) = &self.model
            && !state.model.names().any(|name| name == model)
        {
            let shown: String = model.chars().take(128).collect();
            let detail = format!(
                "there is no model `{shown}`; the one that is served is `{}`",
                state.model.name
            );
            return Err(ApiError::new(ErrorCode::ModelNotFound, detail).param("model"));
        }
        match self.n {
            None | Some(1) => Ok(()),
            Some(n) => Err(ApiError::out_of_range("n", n, "1")),
        }
    }
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
        let reading = async |request| read_json_object(request, state).await;
        let (arrival, object) = receive(request, state, reading).await?;
        let object = Value::Object(object.0.into_iter().collect::<Map<_, _>>());
        let shared: SharedFields = read(object.clone())?;
        shared.check(state)?;
        Ok(Self {
            fields: read(object)?,
            shared,
            arrival,
        })
    }
}

impl<T> OpenAiRequest<T> {
    /// The same as a native route's request about one image.
    pub fn common(
        self,
        image: ImageSource,
        max_tokens: Option<i64>,
        logprobs: Option<i64>,
    ) -> Result<Common, ApiError> {
        Ok(Common {
            images: vec![image],
            options: self.shared.options(max_tokens, logprobs)?,
            arrival: self.arrival,
        })
    }
}

fn read<T: DeserializeOwned>(fields: Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(fields).map_err(|error| {
        let field = error.path().to_string();
        let reason = error.into_inner().to_string();
        match reason.strip_prefix("missing field `") {
            Some(name) => {
                let name = name.trim_end_matches('`');
                ApiError::new(ErrorCode::MissingField, format!("`{name}` is required")).param(name)
            }
            None => {
                ApiError::new(ErrorCode::InvalidField, format!("`{field}`: {reason}")).param(field)
            }
        }
    })
}

/// The refusal of a request without a picture.
pub fn image_required(param: &str, how: &str) -> ApiError {
    let detail = format!("an image is required, as PaliGemma answers about images only: {how}");
    ApiError::new(ErrorCode::MissingField, detail).param(param)
}
