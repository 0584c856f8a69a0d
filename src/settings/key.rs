//! The keys as `config/default.toml` documents them. Flags, help and the README are generated from
//! them.

use std::fmt::Write;
use std::sync::LazyLock;

use super::DEFAULTS;

/// One setting, as documented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// `max_images`.
    pub name: &'static str,
    /// The flag without its leading dashes: `max-images`.
    pub flag: String,
    /// The section's heading.
    pub section: &'static str,
    /// The kind of value: `NUMBER`, `DURATION`, or the choices.
    pub kind: &'static str,
    /// The default as TOML.
    pub default: &'static str,
    /// What the setting is for.
    pub why: &'static str,
}

/// All settings, in the order of `config/default.toml`.
pub static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| parse(DEFAULTS));

/// Reads sections (`## Name`) and keys (`# <KIND> why`, then `key = default`).
fn parse(toml: &'static str) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut section = "";
    let (mut kind, mut why) = ("", "");
    for line in toml.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading;
        } else if let Some((of, text)) = line
            .strip_prefix("# <")
            .and_then(|comment| comment.split_once("> "))
        {
            (kind, why) = (of, text);
        } else if let Some((name, default)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            let flag = name.replace('_', "-");
            keys.push(Key {
                name,
                flag,
                section,
                kind,
                default,
                why,
            });
            (kind, why) = ("", "");
        }
    }
    keys
}

/// The settings as the Markdown table of `docs/settings.md`.
pub fn table() -> String {
    let mut table = String::from("| setting | value | default | what for |\n|---|---|---|---|\n");
    for key in KEYS.iter() {
        // A bar would end the cell, even inside backquotes.
        let kind = key.kind.replace('|', " \\| ");
        let Key {
            name, default, why, ..
        } = key;
        let _ = writeln!(table, "| `{name}` | {kind} | `{default}` | {why} |");
    }
    table
}
