//! The settings' layers, and the messages for wrong settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use paligemma_server::settings::{KEYS, LogFormat, Settings, SettingsError, table};
use tempfile::TempDir;

/// The three layers above the defaults, with a config file in a folder of its own.
#[derive(Default)]
struct Layers {
    file: Option<&'static str>,
    environment: &'static [(&'static str, &'static str)],
    flags: &'static [(&'static str, &'static str)],
}

impl Layers {
    fn load(&self) -> Result<Settings, SettingsError> {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("server.toml");
        let config: Option<PathBuf> = self.file.map(|text| {
            std::fs::write(&path, text).unwrap();
            path
        });
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let flags: BTreeMap<_, _> = self.flags.iter().map(owned).collect();
        Settings::load(config.as_deref(), self.environment.iter().map(owned), flags)
    }

    fn message(&self) -> String {
        self.load().expect_err("a mistake").to_string()
    }
}

fn in_file(file: &'static str) -> Layers {
    Layers {
        file: Some(file),
        ..Layers::default()
    }
}

fn in_environment(environment: &'static [(&'static str, &'static str)]) -> Layers {
    Layers {
        environment,
        ..Layers::default()
    }
}

fn in_flags(flags: &'static [(&'static str, &'static str)]) -> Layers {
    Layers {
        flags,
        ..Layers::default()
    }
}

#[track_caller]
fn assert_tells(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

#[test]
fn the_defaults_alone_are_valid() {
    let settings = Layers::default().load().unwrap();
    assert_eq!(settings.host, "127.0.0.1");
    assert_eq!(settings.port, 8080);
    assert_eq!((settings.context, settings.threads), (None, None));
    assert_eq!(settings.max_token_gap, None);
    assert_eq!(settings.log_format, LogFormat::Text);
    assert_eq!(settings.request_timeout, Duration::from_secs(120));
    assert_eq!(settings.max_body.as_u64(), 50_000_000);
    assert!(settings.api_keys.is_empty() && settings.image_hosts.is_empty());
}

#[test]
fn flags_beat_variables_then_the_file_then_the_defaults() {
    let settings = Layers {
        file: Some("slots = 2\nqueue = 20\nport = 2000"),
        environment: &[("PALIGEMMA_QUEUE", "30"), ("PALIGEMMA_PORT", "3000")],
        flags: &[("port", "4000")],
    };
    let settings = settings.load().unwrap();
    assert_eq!(settings.max_images, 16, "default");
    assert_eq!(settings.slots, Some(2), "file over default");
    assert_eq!(settings.queue, 30, "variable over file");
    assert_eq!(settings.port, 4000, "flag over variable");
}

#[test]
fn a_list_replaces_that_of_a_weaker_layer() {
    let settings = Layers {
        file: Some(r#"image_hosts = ["a.example", "b.example"]"#),
        environment: &[("PALIGEMMA_IMAGE_HOSTS", "c.example")],
        flags: &[],
    };
    assert_eq!(settings.load().unwrap().image_hosts, ["c.example"]);
}

#[test]
fn every_kind_of_value_is_read_from_toml_and_from_text() {
    let toml = in_file(
        r#"
        context = 700
        max_token_gap = "80ms"
        image_cache = "1GiB"
        keep_alive = "1m 30s"
        api_keys = ["0123", "b"]
        cors_origins = ["https://a.example"]
        log_format = "json"
        "#,
    );
    let text = in_environment(&[
        ("PALIGEMMA_CONTEXT", "700"),
        ("PALIGEMMA_MAX_TOKEN_GAP", "80ms"),
        ("PALIGEMMA_IMAGE_CACHE", "1GiB"),
        ("PALIGEMMA_KEEP_ALIVE", "1m 30s"),
        ("PALIGEMMA_API_KEYS", "0123, b"),
        ("PALIGEMMA_CORS_ORIGINS", "https://a.example"),
        ("PALIGEMMA_LOG_FORMAT", "json"),
        ("HOME", "/root"),
    ]);
    for settings in [toml.load().unwrap(), text.load().unwrap()] {
        assert_eq!(settings.context, Some(700));
        assert_eq!(settings.max_token_gap, Some(Duration::from_millis(80)));
        assert_eq!(settings.image_cache.as_u64(), 1 << 30);
        assert_eq!(settings.keep_alive, Duration::from_secs(90));
        let keys: Vec<_> = settings.api_keys.iter().map(|key| key.expose()).collect();
        assert_eq!(keys, ["0123", "b"]);
        assert_eq!(settings.cors_origins, ["https://a.example"]);
        assert_eq!(settings.log_format, LogFormat::Json);
    }
}

#[test]
fn adapters_are_given_as_a_list_as_a_table_and_as_text() {
    let list = in_file(r#"adapter = ["a=/adapters/a", " b = me/b=c "]"#);
    let table = in_file("[adapter]\na = \"/adapters/a\"\nb = \"me/b=c\"");
    let text = in_environment(&[("PALIGEMMA_ADAPTER", "a=/adapters/a, b=me/b=c")]);
    let flag = in_flags(&[("adapter", "a=/adapters/a,b=me/b=c")]);
    for layers in [list, table, text, flag] {
        let adapters = layers.load().unwrap().adapter;
        let adapters: Vec<_> = adapters.iter().map(|(a, b)| (&a[..], &b[..])).collect();
        assert_eq!(adapters, [("a", "/adapters/a"), ("b", "me/b=c")]);
    }
    for wrong in ["me/a", "=me/a", "a="] {
        let file = format!("adapter = [\"{wrong}\"]");
        let parts = ["adapter", wrong, "NAME=FOLDER or NAME=ID"];
        assert_tells(&in_file(file.leak()).message(), &parts);
    }
}

#[test]
fn vertex_ai_names_the_port_and_the_routes() {
    const ON: (&str, &str) = ("PALIGEMMA_VERTEX_ROUTES", "true");
    let variables = in_environment(&[
        ON,
        ("PALIGEMMA_PORT", "9000"),
        ("AIP_HTTP_PORT", "8085"),
        ("AIP_HEALTH_ROUTE", "/health"),
        ("AIP_PREDICT_ROUTE", "/v1/endpoints/1:predict"),
    ]);
    let settings = variables.load().unwrap();
    assert_eq!(settings.port, 8085);
    let vertex = settings.vertex.unwrap();
    assert_eq!(vertex.health_route, "/health");
    assert_eq!(vertex.predict_route, "/v1/endpoints/1:predict");

    let off = in_environment(&[("AIP_HTTP_PORT", "8085")]).load().unwrap();
    assert_eq!((off.port, off.vertex), (8080, None));
    for (variables, parts) in [
        (&[ON][..], ["AIP_HTTP_PORT", "\"\""]),
        (&[ON, ("AIP_HTTP_PORT", "0")], ["AIP_HTTP_PORT", "\"0\""]),
        (
            &[ON, ("AIP_HTTP_PORT", "1"), ("AIP_HEALTH_ROUTE", "health")],
            ["AIP_HEALTH_ROUTE", "begins with /"],
        ),
    ] {
        let message = in_environment(variables.to_vec().leak()).message();
        assert_tells(&message, &parts);
    }
}

#[test]
fn an_empty_variable_is_an_empty_list() {
    let settings = in_environment(&[("PALIGEMMA_API_KEYS", "")])
        .load()
        .unwrap();
    assert!(settings.api_keys.is_empty());
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_three_nearest() {
    let message = in_file("qeue = 3").message();
    assert_tells(
        &message,
        &[
            "unknown setting qeue (config file ",
            "server.toml); the nearest are queue, device and key_rate; ",
            "`paligemma-server serve --help` lists all",
        ],
    );

    let message = in_file("prefill_tokens_per_step = 256").message();
    assert_tells(&message, &["the nearest are ", "prefill_batch_tokens"]);

    let message = in_environment(&[("PALIGEMMA_PROT", "1")]).message();
    assert_tells(
        &message,
        &[
            "environment variable PALIGEMMA_PROT",
            "the nearest are port, ",
        ],
    );

    let message = in_file("[server]\nport = 1").message();
    assert_tells(&message, &["unknown setting server", "the nearest are "]);
}

#[test]
fn a_line_break_in_a_key_makes_no_second_line() {
    let message = in_file("\"po\\nrt\" = 1").message();
    assert_tells(
        &message,
        &["unknown setting po\\nrt", "server.toml", "port"],
    );
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn the_value_of_an_unknown_key_is_not_shown_because_it_may_be_a_secret() {
    let message = in_environment(&[("PALIGEMMA_API_KYES", "hunter2")]).message();
    assert_tells(
        &message,
        &["PALIGEMMA_API_KYES", "the nearest are api_keys, "],
    );
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn a_mistake_is_reported_with_its_key_value_place_and_what_is_allowed() {
    for (layers, parts) in [
        (
            in_flags(&[("port", "99999")]),
            ["port", "\"99999\"", "flag --port", "from 0 to 65535"],
        ),
        (
            in_file("port = 99999"),
            ["port", "99999", "config file", "from 0 to 65535"],
        ),
        (
            in_file("slots = -1"),
            ["slots", "-1", "config file", "from 1 to 1024"],
        ),
        (
            in_file("slots = true"),
            ["slots", "true", "config file", "from 1 to 1024"],
        ),
        (
            in_file("slots = [1]"),
            ["slots", "a list", "config file", "from 1 to 1024"],
        ),
        (
            in_environment(&[("PALIGEMMA_QUEUE", "0")]),
            ["queue", "\"0\"", "PALIGEMMA_QUEUE", "from 1 to 1000000"],
        ),
        (
            in_flags(&[("max_images", "many")]),
            [
                "max_images",
                "\"many\"",
                "flag --max-images",
                "a whole number",
            ],
        ),
        (
            in_flags(&[("request_timeout", "120")]),
            [
                "request_timeout",
                "\"120\"",
                "flag --request-timeout",
                "a duration with its unit",
            ],
        ),
        (
            in_file(r#"request_timeout = "2 parsecs""#),
            [
                "request_timeout",
                "\"2 parsecs\"",
                "config file",
                "such as 500ms, 30s or 2m",
            ],
        ),
        (
            in_file(r#"keep_alive = "0s""#),
            ["keep_alive", "\"0s\"", "config file", "from 1ms"],
        ),
        (
            in_file(r#"shutdown_grace = "3years""#),
            ["shutdown_grace", "\"3years\"", "config file", "to 7days"],
        ),
        (
            in_file("max_body = 50"),
            ["max_body", "50", "config file", "a size with its unit"],
        ),
        (
            in_file(r#"image_cache = "5 s""#),
            ["image_cache", "\"5 s\"", "config file", "such as 512KiB"],
        ),
        (
            in_environment(&[("PALIGEMMA_DTYPE", "int8")]),
            ["dtype", "\"int8\"", "PALIGEMMA_DTYPE", "bf16, q8_0 or q4k"],
        ),
        (
            in_environment(&[("PALIGEMMA_DEVICE", "cuda:x")]),
            ["device", "\"cuda:x\"", "PALIGEMMA_DEVICE", "cuda:N"],
        ),
        (
            in_flags(&[("context", "big")]),
            [
                "context",
                "\"big\"",
                "flag --context",
                "auto, or a whole number",
            ],
        ),
        (
            in_flags(&[("max_token_gap", "fast")]),
            [
                "max_token_gap",
                "\"fast\"",
                "flag --max-token-gap",
                "auto, or a duration with its unit",
            ],
        ),
        (
            in_flags(&[("host", "http://localhost")]),
            [
                "host",
                "\"http://localhost\"",
                "flag --host",
                "without scheme and port",
            ],
        ),
        (
            in_file(r#"image_hosts = ["a.example", "https://b.example/"]"#),
            [
                "image_hosts",
                "\"https://b.example/\"",
                "config file",
                "a host name or an address",
            ],
        ),
        (
            in_file(r#"cors_origins = ["a.example"]"#),
            [
                "cors_origins",
                "\"a.example\"",
                "config file",
                "https://app.example.org",
            ],
        ),
        (
            in_flags(&[("log_level", "inof")]),
            [
                "log_level",
                "\"inof\"",
                "flag --log-level",
                "error, warn, info",
            ],
        ),
        (
            in_flags(&[("log_format", "xml")]),
            ["log_format", "\"xml\"", "flag --log-format", "text or json"],
        ),
        (
            in_file(r#"revision = """#),
            ["revision", "\"\"", "config file", "not empty"],
        ),
    ] {
        assert_tells(&layers.message(), &parts);
    }
}

#[test]
fn a_log_level_may_name_modules() {
    let level = "warn,paligemma_server::engine=trace";
    let settings = in_flags(&[("log_level", "warn,paligemma_server::engine=trace")]);
    assert_eq!(settings.load().unwrap().log_level, level);
}

#[test]
fn a_file_that_is_missing_or_not_toml_is_named() {
    let missing = PathBuf::from("/nowhere/server.toml");
    let error = Settings::load(Some(&missing), [], BTreeMap::new()).unwrap_err();
    assert_tells(
        &error.to_string(),
        &["/nowhere/server.toml", "No such file"],
    );

    let message = in_file("slots = 2\nport = = 3").message();
    assert_tells(&message, &["server.toml", "line 2"]);
}

#[test]
fn lines_of_a_broken_file_are_not_quoted_because_they_may_hold_a_secret() {
    let message = in_file(r#"api_keys = ["hunter2"#).message();
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn api_keys_are_shown_nowhere() {
    let settings = in_environment(&[("PALIGEMMA_API_KEYS", "hunter2,correct-horse")]);
    let shown = format!("{:?}", settings.load().unwrap());
    assert!(
        !shown.contains("hunter2") && !shown.contains("correct-horse"),
        "{shown}"
    );

    for mistake in [
        in_environment(&[("PALIGEMMA_API_KEYS", "hunter2 with spaces")]),
        in_file(r#"api_keys = ["hunter2,"]"#),
        in_file("api_keys = { hunter2 = 1 }"),
    ] {
        let message = mistake.message();
        assert_tells(&message, &["api_keys", "(hidden)", "visible ASCII"]);
        assert!(!message.contains("hunter2"), "{message}");
    }
    let of_admin = in_environment(&[("PALIGEMMA_ADAPTER_ADMIN_KEYS", "hunter2 with spaces")]);
    let message = of_admin.message();
    assert_tells(&message, &["adapter_admin_keys", "(hidden)"]);
    assert!(!message.contains("hunter2"), "{message}");

    let of_label_studio = in_environment(&[("PALIGEMMA_LABEL_STUDIO_API_KEY", "hunter2")]);
    let shown = format!("{:?}", of_label_studio.load().unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    let spaced = in_environment(&[("PALIGEMMA_LABEL_STUDIO_API_KEY", "hunter2 with spaces")]);
    let message = spaced.message();
    assert_tells(&message, &["label_studio_api_key", "(hidden)"]);
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn every_setting_is_documented() {
    let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    let defaults = include_str!("../../config/default.toml");
    let written = defaults
        .lines()
        .filter(|line| line.starts_with(char::is_alphabetic));
    assert_eq!(
        names.len(),
        written.count(),
        "keys that were parsed: {names:?}"
    );
    for key in KEYS.iter() {
        let name = key.name;
        assert!(!key.section.is_empty(), "{name} stands in no section");
        assert!(!key.kind.is_empty(), "{name}: no `# <KIND> why` above it");
        assert!(
            key.why.ends_with('.'),
            "{name}: its reason is not a sentence: {}",
            key.why
        );
    }
}

const TABLE_BEGINS: &str = "<!-- settings: generated from config/default.toml -->\n";
const TABLE_ENDS: &str = "<!-- /settings -->";

#[test]
fn the_table_of_settings_in_docs_matches_default_toml() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md")).unwrap();
    let found = page
        .split_once(TABLE_BEGINS)
        .and_then(|(_, rest)| rest.split_once(TABLE_ENDS))
        .map(|(table, _)| table.trim());
    let wanted = table();
    assert_eq!(
        found,
        Some(wanted.trim()),
        "put this between {TABLE_BEGINS:?} and {TABLE_ENDS:?} in docs/settings.md:\n{wanted}"
    );
}

/// What the compose file settles itself: where the server listens and runs.
const OF_COMPOSE: [&str; 3] = ["host", "port", "device"];

#[test]
fn the_compose_file_passes_every_setting_on() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docker-compose.yml");
    let compose = std::fs::read_to_string(path).unwrap();
    for key in KEYS.iter().filter(|key| !OF_COMPOSE.contains(&key.name)) {
        let line = format!("- PALIGEMMA_{}", key.name.to_uppercase());
        assert!(
            compose.lines().any(|it| it.trim() == line),
            "docker-compose.yml lacks {line}"
        );
    }
}
