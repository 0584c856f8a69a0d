//! Reads and checks a setting's value, given as text or as a TOML value.

mod form;
mod network;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;
use humantime_serde::re::humantime;
use serde::Serialize;
use serde::de::Deserializer;
use tracing_subscriber::EnvFilter;
use utoipa::ToSchema;

use form::{list, list_or_table, scalar};
pub(super) use network::{endpoint, host, hosts, origins, ports};

use crate::kernels::{DeviceChoice, FormatChoice, GraphChoice, InstructionsChoice};

/// Longest duration that a setting accepts. Beyond it, arithmetic on `Instant`s could overflow.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A bearer token. Only [`ApiKey::expose`] reveals its text.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The secret itself. Compare it in constant time.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// A task with a route of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
// The variants' comments are the help of `--task`.
pub enum TaskName {
    /// A description.
    Caption,
    /// The answer to --question.
    Vqa,
    /// The text in the picture.
    Ocr,
    /// A box around each --object.
    Detect,
    /// A box and a mask of each --object.
    Segment,
}

/// What may be closed to those who have no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyedPage {
    /// `/metrics`.
    Metrics,
    /// `/docs`, `/openapi.yaml` and `/openapi.json`.
    Docs,
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caption => "caption",
            Self::Vqa => "vqa",
            Self::Ocr => "ocr",
            Self::Detect => "detect",
            Self::Segment => "segment",
        })
    }
}

pub(super) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    scalar(deserializer, &"true or false", |text| text.parse().ok())
}

/// A whole number from `MIN` to `MAX`, inclusive.
pub(super) fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<T, D::Error> {
    scalar(
        deserializer,
        &format_args!("a whole number from {MIN} to {MAX}"),
        |text| {
            let number = u64::from_str(text).ok()?;
            (MIN..=MAX)
                .contains(&number)
                .then_some(number)?
                .try_into()
                .ok()
        },
    )
}

/// A duration with its unit, of at least `MIN_MILLIS`.
pub(super) fn duration<'de, D: Deserializer<'de>, const MIN_MILLIS: u64>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let least = Duration::from_millis(MIN_MILLIS);
    scalar(deserializer, &durations(least), |text| {
        parse_duration(text, least)
    })
}

fn durations(least: Duration) -> String {
    let least = humantime::format_duration(least);
    let most = humantime::format_duration(LONGEST);
    format!("a duration with its unit, such as 500ms, 30s or 2m, from {least} to {most}")
}

fn parse_duration(text: &str, least: Duration) -> Option<Duration> {
    let duration = humantime::parse_duration(text).ok()?;
    (least..=LONGEST).contains(&duration).then_some(duration)
}

/// A size with its unit, of at least `MIN` bytes. Only 0 needs no unit, because a bare number is
/// more often a forgotten unit than a count of bytes.
pub(super) fn size<'de, D: Deserializer<'de>, const MIN: u64>(
    deserializer: D,
) -> Result<ByteSize, D::Error> {
    scalar(
        deserializer,
        &format_args!("a size with its unit, such as 512KiB, 50MB or 1GB, of at least {MIN} bytes"),
        |text| {
            let unitless = text != "0" && text.ends_with(|last: char| last.is_ascii_digit());
            let size = ByteSize::from_str(text).ok()?;
            (!unitless && size.as_u64() >= MIN).then_some(size)
        },
    )
}

/// Text that is not empty.
pub(super) fn filled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    scalar(deserializer, &"text that is not empty", |text| {
        (!text.is_empty()).then(|| text.to_owned())
    })
}

pub(super) fn dtype<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FormatChoice, D::Error> {
    scalar(deserializer, &"auto, f32, bf16, q8_0 or q4k", |text| {
        text.parse().ok()
    })
}

pub(super) fn cpu_instructions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<InstructionsChoice, D::Error> {
    scalar(
        deserializer,
        &"auto, amx, avx512-vnni, avx-vnni, avx2 or portable",
        |text| text.parse().ok(),
    )
}

pub(super) fn cuda_graphs<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<GraphChoice, D::Error> {
    scalar(deserializer, &"auto, on or off", |text| text.parse().ok())
}

pub(super) fn device<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DeviceChoice, D::Error> {
    scalar(
        deserializer,
        &"auto, cpu, cuda, or cuda:N with the number of the GPU",
        |text| text.parse().ok(),
    )
}

/// Names of tasks.
pub(super) fn tasks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TaskName>, D::Error> {
    list(
        deserializer,
        "caption, vqa, ocr, detect or segment",
        |text| <TaskName as ValueEnum>::from_str(text, false).ok(),
    )
}

pub(super) fn keyed_pages<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<KeyedPage>, D::Error> {
    list(deserializer, "metrics or docs", |text| match text {
        "metrics" => Some(KeyedPage::Metrics),
        "docs" => Some(KeyedPage::Docs),
        _ => None,
    })
}

pub(super) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    list(deserializer, "a name that is not empty", |text| {
        (!text.is_empty()).then(|| text.to_owned())
    })
}

pub(super) fn adapters<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(String, String)>, D::Error> {
    let pair = |text: &str| {
        let (name, source) = text.split_once('=')?;
        let (name, source) = (name.trim(), source.trim());
        let pair = || (name.to_owned(), source.to_owned());
        (!name.is_empty() && !source.is_empty()).then(pair)
    };
    list_or_table(deserializer, "NAME=FOLDER or NAME=ID", pair)
}

pub(super) fn api_keys<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ApiKey>, D::Error> {
    list(
        deserializer,
        "one or more visible ASCII characters without commas",
        parse_api_key,
    )
}

/// A key, or nothing.
pub(super) fn api_key<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ApiKey>, D::Error> {
    let allowed = "empty, or visible ASCII characters without commas";
    scalar(deserializer, &allowed, |text| match text {
        "" => Some(None),
        _ => parse_api_key(text).map(Some),
    })
}

fn parse_api_key(text: &str) -> Option<ApiKey> {
    let sendable = |c: char| c.is_ascii_graphic() && c != ',';
    (!text.is_empty() && text.chars().all(sendable)).then(|| ApiKey(text.to_owned()))
}

/// A number from `LEAST` to `MOST`; `None` is "auto".
pub(super) fn auto_or_whole<'de, D: Deserializer<'de>, const LEAST: usize, const MOST: usize>(
    deserializer: D,
) -> Result<Option<usize>, D::Error> {
    let allowed = format!("auto, or a whole number from {LEAST} to {MOST}");
    scalar(deserializer, &allowed, |text| {
        if text == "auto" {
            return Some(None);
        }
        let number = text.parse().ok()?;
        (LEAST..=MOST).contains(&number).then_some(Some(number))
    })
}

/// A duration with its unit, of at least `MIN_MILLIS`; `None` is "auto".
pub(super) fn auto_or_duration<'de, D: Deserializer<'de>, const MIN_MILLIS: u64>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let least = Duration::from_millis(MIN_MILLIS);
    let allowed = format!("auto, or {}", durations(least));
    scalar(deserializer, &allowed, |text| match text {
        "auto" => Some(None),
        _ => parse_duration(text, least).map(Some),
    })
}

pub(super) fn log_format<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<LogFormat, D::Error> {
    scalar(deserializer, &"text or json", |text| match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    })
}

pub(super) fn log_level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    scalar(
        deserializer,
        &"error, warn, info, debug, trace or off, or a list such as info,paligemma_server::engine=debug",
        |text| {
            // EnvFilter takes an unknown word for a module, so a typo such as `inof` would silence
            // everything.
            let known = |directive: &str| {
                let level = directive.rsplit('=').next().unwrap_or(directive);
                level
                    .parse::<tracing_subscriber::filter::LevelFilter>()
                    .is_ok()
            };
            (text.split(',').all(|d| known(d.trim())) && EnvFilter::try_new(text).is_ok())
                .then(|| text.to_owned())
        },
    )
}
