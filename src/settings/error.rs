//! What is wrong with the settings, for the person who wrote them.

use std::fmt;

use figment::error::{Actual, Kind};
use figment::{Figment, Metadata, Profile};

use super::key::KEYS;

/// A mistake in the settings. Each message names the key and where its value came from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A key that doesn't exist. The message leaves out its value, which may be a secret.
    #[error("unknown setting {key} ({origin}){suggestion}; known settings are {known}", suggestion = Suggestion(.closest), known = known())]
    Unknown {
        key: String,
        origin: String,
        closest: Option<&'static str>,
    },
    /// An invalid value, such as one with a wrong unit.
    #[error("setting {key} = {value} ({origin}) is invalid; allowed is {allowed}")]
    Invalid {
        key: String,
        value: String,
        origin: String,
        allowed: String,
    },
    /// A value that this model doesn't support.
    #[error("setting {key} = {value} is invalid for this model; allowed is {allowed}")]
    ForModel {
        key: &'static str,
        value: String,
        allowed: String,
    },
    /// A config file that can't be read or isn't TOML.
    #[error("config file {file} can't be used: {reason}")]
    File { file: String, reason: String },
}

struct Suggestion<'a>(&'a Option<&'static str>);

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(closest) => write!(f, ", did you mean {closest}?"),
            None => Ok(()),
        }
    }
}

fn known() -> String {
    let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    names.join(", ")
}

impl SettingsError {
    /// Turns an `error` from extracting `figment` into our message.
    pub(super) fn new(error: &figment::Error, figment: &Figment) -> Self {
        if let Kind::UnknownField(key, _) = &error.kind {
            return Self::Unknown {
                key: key.clone(),
                origin: origin(figment.find_metadata(key), key),
                closest: closest(key),
            };
        }
        let Some(key) = error.path.first() else {
            return Self::File {
                file: file(error.metadata.as_ref()).unwrap_or_default(),
                reason: without_excerpt(&error.kind.to_string()),
            };
        };
        let (value, allowed) = match &error.kind {
            Kind::InvalidValue(actual, allowed) | Kind::InvalidType(actual, allowed) => {
                (shown(actual), allowed.clone())
            }
            other => ("?".to_owned(), other.to_string()),
        };
        let secret = key == "api_keys";
        Self::Invalid {
            key: key.clone(),
            value: if secret { "(hidden)".to_owned() } else { value },
            origin: origin(error.metadata.as_ref(), key),
            allowed,
        }
    }
}

fn file(metadata: Option<&Metadata>) -> Option<String> {
    let path = metadata?.source.as_ref()?.file_path()?;
    Some(path.display().to_string())
}

/// `flag --port`, `environment variable PALIGEMMA_PORT` or `config file x.toml`.
fn origin(metadata: Option<&Metadata>, key: &str) -> String {
    match (file(metadata), metadata) {
        (Some(path), _) => format!("config file {path}"),
        (None, Some(text)) => {
            let name = text.interpolate(&Profile::Default, &[key]);
            format!("{} {name}", text.name)
        }
        (None, None) => "of unknown origin".to_owned(),
    }
}

fn shown(actual: &Actual) -> String {
    match actual {
        Actual::Str(text) => format!("{text:?}"),
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// The first line of a TOML error (where) and the last (what). The lines between quote the file,
/// which could show a secret.
fn without_excerpt(message: &str) -> String {
    let mut lines = message.trim().lines();
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(last) => format!("{first}: {last}"),
        None => first.to_owned(),
    }
}

fn closest(key: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|known| (strsim::jaro_winkler(key, known.name), known.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
