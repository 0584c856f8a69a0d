//! The hub's address, our token, and the cache.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const DEFAULT_RETRY_DELAY: Duration = Duration::from_millis(500);

/// How to reach the Hugging Face hub, with the same environment variables as its Python tools.
#[derive(Clone)]
pub struct HubSettings {
    /// Base URL of the hub or of a mirror (`HF_ENDPOINT`).
    pub endpoint: String,
    /// Access token; needed for gated and private repositories (`HF_TOKEN`, or the file that
    /// `hf auth login` writes). Only ever sent to `endpoint`.
    pub token: Option<String>,
    /// The shared cache, in the standard layout (`HF_HUB_CACHE`, or `HF_HOME` with `/hub`).
    pub cache_dir: PathBuf,
    /// Use only the cache and send nothing (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// Wait before the first retry of a failed request; it doubles with each further retry.
    pub retry_delay: Duration,
}

impl HubSettings {
    /// Reads the settings from the process's environment and from the token file it points to.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`HubSettings::from_env`], with the environment as a function. Empty variables count as
    /// unset.
    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| {
            variable(name)
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let home = hf_home(&variable);
        let implicit_token = !variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(is_true);
        Self {
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()),
            token: implicit_token.then(|| token(&variable, &home)).flatten(),
            cache_dir: variable("HF_HUB_CACHE")
                .or_else(|| variable("HUGGINGFACE_HUB_CACHE"))
                .map_or_else(|| home.join("hub"), PathBuf::from),
            offline: variable("HF_HUB_OFFLINE").is_some_and(is_true),
            retry_delay: DEFAULT_RETRY_DELAY,
        }
    }
}

// Not derived, so that no log shows the token.
impl fmt::Debug for HubSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("token_given", &self.token.is_some())
            .field("cache_dir", &self.cache_dir)
            .field("offline", &self.offline)
            .field("retry_delay", &self.retry_delay)
            .finish()
    }
}

fn hf_home(variable: &impl Fn(&str) -> Option<String>) -> PathBuf {
    if let Some(home) = variable("HF_HOME") {
        return PathBuf::from(home);
    }
    variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let home = variable("HOME").unwrap_or_else(|| "/tmp".to_owned());
            Path::new(&home).join(".cache")
        })
        .join("huggingface")
}

fn token(variable: &impl Fn(&str) -> Option<String>, home: &Path) -> Option<String> {
    variable("HF_TOKEN").or_else(|| {
        let file = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let text = std::fs::read_to_string(file).ok()?;
        let token = text.trim();
        (!token.is_empty()).then(|| token.to_owned())
    })
}

fn is_true(value: String) -> bool {
    ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        HubSettings::from_variables(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_empty_environment_means_the_public_hub_and_the_cache_in_the_home_folder() {
        let settings = settings(&[("HOME", "/home/ada")]);
        assert_eq!(settings.endpoint, "https://huggingface.co");
        assert_eq!(
            settings.cache_dir,
            Path::new("/home/ada/.cache/huggingface/hub")
        );
        assert_eq!(settings.token, None);
        assert!(!settings.offline);
    }

    #[test]
    fn the_cache_is_hf_hub_cache_else_hub_under_hf_home_else_under_xdg_cache_home() {
        let home = ("HF_HOME", "/data/hf");
        let xdg = ("XDG_CACHE_HOME", "/xdg");
        let cases: [(&[(&str, &str)], &str); 3] = [
            (&[("HF_HUB_CACHE", "/data/cache"), home, xdg], "/data/cache"),
            (&[home, xdg], "/data/hf/hub"),
            (&[xdg], "/xdg/huggingface/hub"),
        ];
        for (variables, expected) in cases {
            assert_eq!(settings(variables).cache_dir, Path::new(expected));
        }
    }

    #[test]
    fn offline_is_1_true_yes_or_on_in_any_case_and_nothing_else() {
        for value in ["1", "true", "TRUE", "Yes", "on"] {
            assert!(settings(&[("HF_HUB_OFFLINE", value)]).offline, "{value}");
        }
        for value in ["0", "false", "no", "off", "", "2"] {
            assert!(!settings(&[("HF_HUB_OFFLINE", value)]).offline, "{value}");
        }
    }

    #[test]
    fn the_token_is_hf_token_else_the_login_file_without_its_newline() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_from_file\n").unwrap();
        let home = ("HF_HOME", home.path().to_str().unwrap());
        let token = |variables: &[(&str, &str)]| settings(variables).token;
        assert_eq!(token(&[home]).as_deref(), Some("hf_from_file"));
        assert_eq!(
            token(&[home, ("HF_TOKEN", " hf_from_env\n")]).as_deref(),
            Some("hf_from_env")
        );
        assert_eq!(token(&[home, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
    }

    #[test]
    fn debug_output_hides_the_token() {
        let text = format!("{:?}", settings(&[("HF_TOKEN", "hf_secret")]));
        assert!(!text.contains("hf_secret"), "{text}");
        assert!(text.contains("token_given: true"), "{text}");
    }
}
