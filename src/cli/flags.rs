//! The settings as flags: one per key of `config/default.toml`, generated from it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};
use paligemma_server::settings::{KEYS, Key, Settings, SettingsError};

/// `--config` and the settings' flags. `ask` shows only the flags that affect a single answer, but
/// accepts all of them, because it reads the same config file as `serve`.
#[derive(Clone, Default)]
pub struct SettingsFlags<const ASK: bool = false> {
    config: Option<PathBuf>,
    values: BTreeMap<String, String>,
}

impl<const ASK: bool> SettingsFlags<ASK> {
    /// Only `--config`, no other flag.
    pub fn of(config: Option<PathBuf>) -> Self {
        Self {
            config,
            values: BTreeMap::new(),
        }
    }

    /// The first flag on the command line that is about computing in this process.
    pub fn of_own_model(&self) -> Option<&'static str> {
        let own = |key: &&Key| {
            matches!(key.section, "Model" | "Engine" | "Limits") && key.name != "max_tokens_default"
        };
        let mut keys = KEYS.iter().filter(own);
        let key = keys.find(|key| self.values.contains_key(key.name))?;
        Some(&key.flag)
    }

    /// Loads and checks all layers.
    pub fn load(self) -> Result<Settings, SettingsError> {
        // No valid setting is other than UTF-8; the lossy text shows up in the error.
        let environment = std::env::vars_os().map(|(name, value)| {
            let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
            (text(name), text(value))
        });
        Settings::load(self.config.as_deref(), environment, self.values)
    }
}

fn shown_by_ask(key: &Key) -> bool {
    matches!(key.section, "Model" | "Logging") || key.name == "max_tokens_default"
}

fn help(key: &Key) -> String {
    match key.default.trim_matches('"') {
        "" | "[]" => key.why.to_owned(),
        default => format!("{} [default: {default}]", key.why),
    }
}

impl<const ASK: bool> clap::Args for SettingsFlags<ASK> {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("A TOML file with any of the settings below. Variables such as PALIGEMMA_PORT override it, and flags override both");
        let flags = KEYS.iter().map(|key| {
            Arg::new(key.name)
                .long(key.flag.as_str())
                .value_name(key.kind)
                .action(match key.kind {
                    "LIST" => ArgAction::Append,
                    _ => ArgAction::Set,
                })
                .help_heading(key.section)
                // The settings must name a wrong value such as `-1`; clap would take it for a flag.
                .allow_hyphen_values(true)
                .hide(ASK && !shown_by_ask(key))
                .help(help(key))
        });
        command.arg(config).args(flags)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const ASK: bool> clap::FromArgMatches for SettingsFlags<ASK> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |key: &Key| {
            // Lists are separated by commas, or the flag is repeated.
            let values: Vec<_> = matches.get_many::<String>(key.name)?.cloned().collect();
            Some((key.name.to_owned(), values.join(",")))
        };
        Ok(Self {
            config: matches.get_one("config").cloned(),
            values: KEYS.iter().filter_map(value).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
