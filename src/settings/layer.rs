//! Settings given as text: environment variables and flags.

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Value};
use figment::{Error, Metadata, Profile, Provider};

/// Prefix of the environment variables that are settings.
pub(super) const PREFIX: &str = "PALIGEMMA_";

/// Keys and their values exactly as typed. figment's own environment provider guesses types, which
/// would change an API key such as `0123`.
pub(super) struct TextLayer {
    metadata: Metadata,
    values: BTreeMap<String, String>,
}

impl TextLayer {
    pub(super) fn environment(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let values = variables
            .into_iter()
            .filter_map(|(name, value)| {
                let key = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
                Some((key, value))
            })
            .collect();
        let metadata = Metadata::named("environment variable").interpolater(|_, keys: &[&str]| {
            format!("{PREFIX}{}", keys.concat().to_ascii_uppercase())
        });
        Self { metadata, values }
    }

    /// `values` are named by key (`max_images`), not by flag.
    pub(super) fn flags(values: BTreeMap<String, String>) -> Self {
        let metadata = Metadata::named("flag")
            .interpolater(|_, keys: &[&str]| format!("--{}", keys.concat().replace('_', "-")));
        Self { metadata, values }
    }
}

impl Provider for TextLayer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let dict = self
            .values
            .iter()
            .map(|(key, value)| (key.clone(), Value::from(value.clone())))
            .collect();
        Ok(Profile::Default.collect(dict))
    }
}
