//! The fields that all tasks share: the length of the answer, sampling, and how it is sent.

use std::fmt::Display;
use std::time::Duration;

use humantime_serde::re::humantime;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::engine::Sampling;

use crate::api::error::{ApiError, ErrorCode};

const MAX_TEMPERATURE: f64 = 2.0;
const MAX_TOP_K: i64 = 1_000_000;
const MAX_LOGPROBS: i64 = 20;
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;

/// Fields that every task route takes.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct Options {
    /// A name of the model, or that of an adapter. Absent: the model, without any adapter.
    #[schema(example = "paligemma2-3b-mix-224")]
    pub model: Option<String>,
    /// How many tokens may be generated. Image, prompt and answer together have to fit the
    /// context. Absent: the operator's default, or less where that does not fit.
    #[schema(minimum = 1, example = 64)]
    pub max_tokens: Option<i64>,
    /// 0 (the default): always the likeliest token. More: the higher, the more varied.
    #[schema(minimum = 0, maximum = 2, default = 0.0)]
    pub temperature: Option<f64>,
    /// Choose among the likeliest tokens whose probabilities add up to this.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub top_p: Option<f64>,
    /// Choose among that many of the likeliest tokens.
    #[schema(minimum = 1)]
    pub top_k: Option<i64>,
    /// The same seed gives the same text. Absent: drawn at random.
    pub seed: Option<u64>,
    /// The text ends before the first of these: one text, or up to 16, each up to 256 bytes.
    pub stop: Option<Stop>,
    /// Report the log-probability of each generated token, and of that many of the likeliest ones.
    #[schema(minimum = 0, maximum = 20)]
    pub logprobs: Option<i64>,
    /// Answer token by token, as `text/event-stream`.
    #[schema(default = false)]
    pub stream: Option<bool>,
    /// In a stream: tell the request's place in the queue while it waits, in `queued` events. The
    /// status is then sent with the first of them, so what fails later comes as an `error` event.
    #[schema(default = false)]
    pub queue_position: Option<bool>,
    /// After which time the request fails with 504, counted from its arrival: seconds, or a text
    /// such as `10s` or `500ms`. At most, and by default, what the operator has set.
    pub timeout: Option<Timeout>,
}

/// One text, or a list of texts.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub enum Stop {
    One(String),
    Several(Vec<String>),
}

/// Seconds, or a text with a unit.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a number of seconds or a text such as `10s`"
)]
pub enum Timeout {
    Seconds(f64),
    Text(String),
}

/// [`Options`] whose values are in range.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedOptions {
    /// None: the default, as far as it fits.
    pub max_tokens: Option<usize>,
    pub sampling: Sampling,
    pub stop: Vec<String>,
    pub logprobs: Option<usize>,
    pub stream: bool,
    pub queue_position: bool,
    pub timeout: Duration,
}

impl Options {
    /// Whether the answer is to be a stream.
    pub fn stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Checks each field; `longest` is the most that `timeout` may be, and `most_tokens` the most
    /// that `max_tokens` may be.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(self, longest: Duration, most_tokens: usize) -> Result<CheckedOptions, ApiError> {
        let sampling = Sampling {
            temperature: self.temperature()?,
            top_p: self.top_p()?,
            top_k: whole("top_k", self.top_k, 1, MAX_TOP_K)?,
            seed: self.seed,
        };
        Ok(CheckedOptions {
            max_tokens: self.max_tokens(most_tokens)?,
            sampling,
            logprobs: whole("logprobs", self.logprobs, 0, MAX_LOGPROBS)?,
            stream: self.stream(),
            queue_position: self.queue_position.unwrap_or(false),
            timeout: self.timeout(longest)?,
            stop: self.stop()?,
        })
    }

    fn max_tokens(&self, most: usize) -> Result<Option<usize>, ApiError> {
        let Some(value) = self.max_tokens else {
            return Ok(None);
        };
        match usize::try_from(value) {
            Ok(tokens) if (1..=most).contains(&tokens) => Ok(Some(tokens)),
            _ => Err(out_of_context(value, most)),
        }
    }

    fn temperature(&self) -> Result<f64, ApiError> {
        let value = self.temperature.unwrap_or(0.0);
        if (0.0..=MAX_TEMPERATURE).contains(&value) {
            return Ok(value);
        }
        let allowed = format!("0 to {MAX_TEMPERATURE}");
        Err(ApiError::out_of_range("temperature", value, &allowed))
    }

    fn top_p(&self) -> Result<Option<f64>, ApiError> {
        match self.top_p {
            Some(value) if !(value > 0.0 && value <= 1.0) => Err(ApiError::out_of_range(
                "top_p",
                value,
                "more than 0, up to 1",
            )),
            value => Ok(value),
        }
    }

    fn timeout(&self, longest: Duration) -> Result<Duration, ApiError> {
        let timeout = match &self.timeout {
            None => return Ok(longest),
            Some(Timeout::Seconds(seconds)) => Duration::try_from_secs_f64(*seconds).ok(),
            Some(Timeout::Text(text)) => match text.trim().parse::<f64>() {
                Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
                Err(_) => Some(humantime::parse_duration(text).map_err(|error| {
                    let detail = format!(
                        "`timeout` is `{text}` ({error}); write seconds, or a number with a unit such as `10s`"
                    );
                    ApiError::new(ErrorCode::InvalidField, detail).param("timeout")
                })?),
            },
        };
        match timeout {
            Some(timeout) if !timeout.is_zero() && timeout <= longest => Ok(timeout),
            _ => {
                let value = match &self.timeout {
                    Some(Timeout::Seconds(seconds)) => format!("{seconds} s"),
                    Some(Timeout::Text(text)) => format!("`{text}`"),
                    None => String::new(),
                };
                let allowed = format!("more than 0, up to {}", humantime::format_duration(longest));
                Err(ApiError::out_of_range("timeout", value, &allowed))
            }
        }
    }

    fn stop(self) -> Result<Vec<String>, ApiError> {
        let stops = match self.stop {
            None => return Ok(Vec::new()),
            Some(Stop::One(text)) => vec![text],
            Some(Stop::Several(texts)) => texts,
        };
        let bad = |detail: String| ApiError::new(ErrorCode::OutOfRange, detail).param("stop");
        if stops.len() > MAX_STOPS {
            let count = stops.len();
            return Err(bad(format!(
                "`stop` has {count} texts; allowed are {MAX_STOPS}"
            )));
        }
        for text in &stops {
            if text.is_empty() || text.len() > MAX_STOP_BYTES {
                let length = text.len();
                return Err(bad(format!(
                    "a text in `stop` has {length} bytes; allowed are 1 to {MAX_STOP_BYTES}"
                )));
            }
        }
        Ok(stops)
    }
}

/// The refusal of a `max_tokens` that leaves no answer, or one that the context can't hold.
pub fn out_of_context(max_tokens: impl Display, allowed: usize) -> ApiError {
    let allowed = format!("1 to {allowed}, so that image, prompt and answer fit the context");
    ApiError::out_of_range("max_tokens", max_tokens, &allowed)
}

fn whole(name: &str, value: Option<i64>, least: i64, most: i64) -> Result<Option<usize>, ApiError> {
    match value {
        None => Ok(None),
        Some(value) if (least..=most).contains(&value) => Ok(usize::try_from(value).ok()),
        Some(value) => {
            let allowed = format!("{least} to {most}");
            Err(ApiError::out_of_range(name, value, &allowed))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(options: Value) -> Result<CheckedOptions, ApiError> {
        let options: Options = serde_json::from_value(options).unwrap();
        options.check(Duration::from_secs(120), 766)
    }

    #[test]
    fn without_fields_decoding_is_greedy_and_has_the_longest_timeout() {
        let checked = check(json!({})).unwrap();
        assert_eq!(checked.sampling, Sampling::greedy());
        assert_eq!(checked.timeout, Duration::from_secs(120));
        assert_eq!((checked.max_tokens, checked.stream), (None, false));
    }

    #[test]
    fn stop_is_one_text_or_a_list() {
        assert_eq!(check(json!({"stop": "."})).unwrap().stop, ["."]);
        assert_eq!(
            check(json!({"stop": [".", "\n"]})).unwrap().stop,
            [".", "\n"]
        );
    }

    #[test]
    fn timeout_is_in_seconds_or_has_a_unit() {
        for (timeout, seconds) in [(json!(1.5), 1.5), (json!("2"), 2.0), (json!("500ms"), 0.5)] {
            let checked = check(json!({ "timeout": timeout })).unwrap();
            assert_eq!(checked.timeout, Duration::from_secs_f64(seconds));
        }
    }

    #[test]
    fn values_out_of_range_name_the_field_the_value_and_what_is_allowed() {
        for (name, value, words) in [
            (
                "max_tokens",
                json!(0),
                "`max_tokens` is 0; allowed is 1 to 766,",
            ),
            ("max_tokens", json!(767), "1 to 766,"),
            ("max_tokens", json!(-1), "-1"),
            (
                "temperature",
                json!(-0.5),
                "`temperature` is -0.5; allowed is 0 to 2",
            ),
            ("top_p", json!(0.0), "more than 0, up to 1"),
            ("top_p", json!(1.5), "1.5"),
            ("top_k", json!(0), "allowed is 1 to"),
            ("logprobs", json!(21), "allowed is 0 to 20"),
            ("timeout", json!(121), "up to 2m"),
            ("timeout", json!(-1), "-1 s"),
            ("timeout", json!("0s"), "more than 0"),
            ("stop", json!(""), "0 bytes"),
            ("stop", json!(vec!["a"; 17]), "17 texts"),
        ] {
            let error = check(json!({ name: value })).unwrap_err();
            assert_eq!(error.code, ErrorCode::OutOfRange, "{name}");
            assert_eq!(error.param.as_deref(), Some(name));
            assert!(error.detail.contains(words), "{error}");
        }
    }
}
