//! What is wrong with the settings, for the person who wrote them.

use figment::error::{Actual, Kind};
use figment::{Figment, Metadata, Profile};

use super::key::KEYS;

/// Settings whose values no message shows.
const SECRETS: [&str; 3] = ["api_keys", "adapter_admin_keys", "label_studio_api_key"];

/// A mistake in the settings. Each message names the key and where its value came from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A key that doesn't exist. The message leaves out its value, which may be a secret.
    #[error("unknown setting {key} ({origin}); the nearest are {}, {} and {}; `paligemma-server serve --help` lists all", .nearest[0], .nearest[1], .nearest[2])]
    Unknown {
        key: String,
        origin: String,
        nearest: [&'static str; 3],
    },
    /// An invalid value, such as one with a wrong unit.
    #[error("setting {key} = {value} ({origin}) is invalid; allowed is {allowed}")]
    Invalid {
        key: String,
        value: String,
        origin: String,
        allowed: String,
    },
    /// Adapters may be loaded, and it isn't said from where or by whom.
    #[error("adapter_admin is on, and {missing} is not set: set it, or leave adapter_admin off")]
    AdapterAdmin { missing: &'static str },
    /// Vertex AI's routes are on, and its environment is not there.
    #[error("vertex_routes is on, and the variable {name} is {value:?}; allowed is {allowed}")]
    Vertex {
        name: &'static str,
        value: String,
        allowed: &'static str,
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

impl SettingsError {
    /// Turns an `error` from extracting `figment` into our message.
    pub(super) fn new(error: &figment::Error, figment: &Figment) -> Self {
        if let Kind::UnknownField(key, _) = &error.kind {
            let shown = key.escape_debug().to_string();
            return Self::Unknown {
                origin: origin(figment.find_metadata(key), &shown),
                key: shown,
                nearest: three_nearest(key),
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
        let secret = SECRETS.contains(&key.as_str());
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

/// The known keys that are most like `key`, the nearest first.
fn three_nearest(key: &str) -> [&'static str; 3] {
    let mut names: Vec<_> = KEYS.iter().map(|known| known.name).collect();
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(key, name);
    names.sort_by(|one, other| likeness(other).total_cmp(&likeness(one)));
    std::array::from_fn(|place| names[place])
}
